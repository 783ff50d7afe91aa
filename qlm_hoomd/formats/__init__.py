"""Files of other programs: readers by entry point (`qlm_hoomd.readers`), and what `qlm convert` writes."""

from qlm_hoomd.formats.reader import Reader as Reader
from qlm_hoomd.formats.reader import Trajectory as Trajectory
from qlm_hoomd.formats.reader import frame_from as frame_from
from qlm_hoomd.formats.reader import open_trajectory as open_trajectory
from qlm_hoomd.formats.reader import read_glass as read_glass
from qlm_hoomd.formats.reader import read_glasses as read_glasses
