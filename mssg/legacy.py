"""Official StyleGAN networks by name, and official pickles read as data. The work is done in
`mssg.checkpoint.legacy`."""

from mssg.checkpoint.legacy import OfficialPickle as OfficialPickle
from mssg.checkpoint.legacy import from_official as from_official
from mssg.checkpoint.legacy import load_checked as load_checked
from mssg.checkpoint.legacy import read_official_pickle as read_official_pickle
from mssg.checkpoint.official_arguments import official_arguments as official_arguments
