"""Values as a pure function of (seed, name, index): `stepzero-v1`."""

from ._draws import DRAWS as DRAWS
from ._draws import Draw as Draw
from ._draws import cut_level as cut_level
from ._draws import draw_of as draw_of
from ._engine import Engine as Engine
from ._engine import EngineName as EngineName
from ._engine import engine as engine
from ._fill import WHOLE as WHOLE
from ._fill import draw as draw
from ._fill import fill as fill
from ._fill import plain as plain
from ._fill import require_drawable as require_drawable
from ._key import SPEC as SPEC
from ._key import Key as Key
from ._key import Purpose as Purpose
from ._key import checked_seed as checked_seed
from ._key import key as key
from ._region import Region as Region
from ._storage import STORAGES as STORAGES
from ._storage import Storage as Storage
from ._storage import storage as storage
from ._values import table as table
from ._words import MULTIPLIERS as MULTIPLIERS
from ._words import ROUNDS as ROUNDS
from ._words import WEYL as WEYL
from ._words import words as words
