"""Every text of the pages of reports, in both languages: a text without its translation cannot be written here."""

from collections.abc import Mapping
from typing import Final

from serve_apps.reports_language import LANGUAGES, Language

#: By name: Vietnamese, English.
TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "author": ("Tác giả", "Author"),
    "breadcrumb": ("Đường dẫn", "Breadcrumb"),
    "chart": ("Biểu đồ", "Chart"),
    "close": ("Đóng", "Dismiss"),
    "contents": ("Nội dung", "Contents"),
    "disclaimer": (
        "Báo cáo chỉ nhằm cung cấp thông tin và không phải là lời khuyên đầu tư.",
        "Reports are for information only and are not investment advice.",
    ),
    "empty": ("Chưa có báo cáo nào.", "There are no reports yet."),
    "empty_hint": (
        "Báo cáo mới sẽ xuất hiện ở đây ngay khi được đăng.",
        "A new report appears here as soon as it is published.",
    ),
    "feed": ("Nguồn tin RSS", "RSS feed"),
    "home": ("Thị trường", "Markets"),
    "latest": ("Mới nhất", "Latest"),
    "leads_to": ("Liên kết trong báo cáo dẫn đến", "A link in the report leads to"),
    "light_or_dark": ("Đổi giao diện sáng hoặc tối", "Switch between light and dark"),
    "main_navigation": ("Điều hướng chính", "Main navigation"),
    "needs_scripts": (
        "Hãy bật JavaScript để báo cáo tự điều chỉnh chiều cao.",
        "With JavaScript the report takes the height that it needs.",
    ),
    "newer": ("Mới hơn", "Newer"),
    "not_found": ("Không tìm thấy trang này", "This page is not here"),
    "not_found_hint": (
        "Báo cáo có thể đã bị gỡ, hoặc địa chỉ chưa đúng.",
        "The report may have been removed, or the address is not quite right.",
    ),
    "older": ("Cũ hơn", "Older"),
    "operations": ("Vận hành", "Operations"),
    "other_language": ("English", "Tiếng Việt"),
    "page": ("Trang", "Page"),
    "pages": ("Các trang", "Pages"),
    "print": ("In hoặc lưu thành PDF", "Print or save as PDF"),
    "print_view": ("Bản in", "Print view"),
    "published": ("Đăng lúc", "Published"),
    "related": ("Báo cáo khác", "Other reports"),
    "report_of": ("Nội dung báo cáo", "The report"),
    "reports": ("Báo cáo", "Reports"),
    "reports_about": (
        "Báo cáo thị trường từ dữ liệu của chính hệ thống này: giá, khối lượng, biến động và độ tin cậy của dữ liệu.",
        "Market reports made from this system's own data: prices, volumes, volatility, and how far the data can be "
        "trusted.",
    ),
    "see_all": ("Xem tất cả báo cáo", "See all reports"),
    "skip": ("Đến nội dung chính", "Skip to the content"),
    "total": ("Tổng số báo cáo", "Reports in all"),
    "unavailable": ("Báo cáo tạm thời không có", "Reports are not available right now"),
    "unavailable_hint": ("Vui lòng thử lại sau giây lát.", "Please try again in a moment."),
    "wrong_page": ("Số trang không hợp lệ", "There is no such page number"),
    "wrong_page_hint": ("Số trang là một số nguyên từ 1.", "A page number is a whole number from 1 on."),
    "wrong_report": ("Số báo cáo không hợp lệ", "There is no such report number"),
    "wrong_report_hint": ("Báo cáo được gọi bằng một số nguyên.", "A report is named by a whole number."),
}


def texts(language: Language) -> dict[str, str]:
    """All of them in one language."""
    at = LANGUAGES.index(language)
    return {name: both[at] for name, both in TEXTS.items()}
