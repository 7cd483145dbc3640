"""From a plan to values: in place, and streamed into files."""

from ._apply import apply as apply
from ._diff import Diff as Diff
from ._diff import Difference as Difference
from ._diff import diff as diff
from ._holdings import is_distributed as is_distributed
from ._manifest import Manifest as Manifest
from ._manifest import SavedTensor as SavedTensor
from ._match import padding_rows as padding_rows
from ._materialize import materialize_ as materialize_
from ._receipt import Receipt as Receipt
from ._receipt import Written as Written
from ._save import save as save
from ._spectral import drawn_vectors as drawn_vectors
