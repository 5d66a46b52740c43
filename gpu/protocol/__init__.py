"""The GPU's command set: what a guest may ask, as OpenCL 1.2 (revision 19) has it.

A stream is packets one after another (see gpu.protocol.fields for their bytes). The guest chooses
the ids of its objects. Bulk data lies in blobs: guest memory that was granted to the context. A
command whose packet has FLAG_ANSWER set is answered in a blob, before the fence of its submission:
i32 status, u32 bytes of what follows, and its Answer's fields. A command that fails without an
answer leaves its error on its event, and in the context until GetError takes it.

The classes below are everything: encoding, checks, names in traces, the reference page and the
guest's C header are made of them.
"""

from gpu.protocol.capset import *
from gpu.protocol.enqueued import *
from gpu.protocol.limits import *
from gpu.protocol.objects import *
from gpu.protocol.packets import *
from gpu.protocol.ring import *
