"""Importing this keeps pyarrow from importing pandas, a third of a second and 50 MB in each process, just to know a
Series when it is given one: the first `pa.array` would. Where pandas is imported before, as in notebooks, all stays as
it is, and `to_pandas` imports it in any case.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("not for pyarrow alone", name=fullname)
        return None


def _let_pyarrow_decide() -> None:
    """It looks once for arrays, once for lists, and remembers."""
    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array(np.zeros(0))
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


if "pandas" not in sys.modules:
    _let_pyarrow_decide()
