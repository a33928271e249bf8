"""Daily, weekly, monthly... active users, counted with HyperLogLog in Redis or Valkey."""

from .analytics.results import (
    Cell,
    Counts,
    Lifecycle,
    LifecycleRow,
    Retention,
    RetentionRow,
    Rows,
    Series,
    SeriesRow,
)
from .archive import Archive
from .errors import (
    ActivityTrackerError,
    ArchiveError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
    CollapseError,
    DroppedEventsError,
    EmbeddedServerError,
    LateEventError,
    MalformedSketchError,
    MissingExtraError,
    MissingSketchesError,
    ReportError,
    SettingsMismatchError,
    UnknownEncodingError,
    WriterClosedError,
)
from .estimates import Estimate, Share
from .ids import Id
from .operations import (
    Archived,
    Collapsed,
    DataSettings,
    Entry,
    Examination,
    Imported,
    Restored,
    Row,
    RowWithGaps,
)
from .overlaps import Overlap
from .periods import PeriodKind
from .result import Gap
from .selection import Selection
from .sketch import HyperLogLog, Sketch
from .tracker import ActivityTracker
from .writer import BufferedTracker, Statistics

__version__ = "1.0.0.dev0"

__all__ = [
    "ActivityTracker",
    "ActivityTrackerError",
    "Archive",
    "ArchiveError",
    "Archived",
    "ArgumentTypeError",
    "ArgumentValueError",
    "BackendAuthError",
    "BackendConnectionError",
    "BackendDataError",
    "BackendError",
    "BackendResponseError",
    "BackendTimeoutError",
    "BufferedTracker",
    "Cell",
    "CollapseError",
    "Collapsed",
    "Counts",
    "DataSettings",
    "DroppedEventsError",
    "EmbeddedServerError",
    "Entry",
    "Estimate",
    "Examination",
    "Gap",
    "HyperLogLog",
    "Id",
    "Imported",
    "LateEventError",
    "Lifecycle",
    "LifecycleRow",
    "MalformedSketchError",
    "MissingExtraError",
    "MissingSketchesError",
    "Overlap",
    "PeriodKind",
    "ReportError",
    "Restored",
    "Retention",
    "RetentionRow",
    "Row",
    "RowWithGaps",
    "Rows",
    "Selection",
    "Series",
    "SeriesRow",
    "SettingsMismatchError",
    "Share",
    "Sketch",
    "Statistics",
    "UnknownEncodingError",
    "WriterClosedError",
    "__version__",
]
