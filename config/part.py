"""What parts of the settings are made of."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A section: it has no other keys than these, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[int, Field(gt=0)]


def is_whole(part: BaseModel) -> bool:
    """Whether it and the parts in it have the fields that they have today."""
    return part.__dict__.keys() == type(part).model_fields.keys() and all(map(is_whole, _parts(part).values()))


def make_whole(part: BaseModel, default: BaseModel | None) -> None:
    """Give what was made by other code the fields it lacks, from `default`, and take away those nobody knows."""
    known = type(part).model_fields
    for name in part.__dict__.keys() - known.keys():
        del part.__dict__[name]
    for name in known.keys() - part.__dict__.keys():
        # One of many that a user has named has no other default than its class's.
        part.__dict__[name] = getattr(default, name) if default else known[name].get_default(call_default_factory=True)
    others = _parts(default) if default else {}
    for place, inner in _parts(part).items():
        make_whole(inner, others.get(place))


def _parts(part: BaseModel) -> dict[tuple[str, str], BaseModel]:
    """By field, and key where the field has many."""
    return {place: inner for place, inner in _all_in(part) if isinstance(inner, BaseModel)}


def _all_in(part: BaseModel) -> Iterator[tuple[tuple[str, str], Any]]:
    for name, value in part.__dict__.items():
        yield (name, ""), value
        if isinstance(value, Mapping):
            yield from (((name, str(key)), inner) for key, inner in value.items())
