"""Why a file cannot be written, as a user is told, and whether that may pass by itself."""

import errno
import os
import re

from emulator.errors import UserError
from emulator.storage.places import Place, RemotePath, StorageError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_OUT_OF_REACH = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOTCONN,
    }
)
"""What a file system of the network says that does not answer."""
# A file that is too large is so for a limit of this process.
_PASSING = (_NO_ROOM | _NO_PERMISSION | _OUT_OF_REACH) - {errno.EFBIG}
_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How libraries that are written in Rust, such as safetensors, give the number of a system's error."""


def unwritable(path: Place, what: str, error: Exception) -> UserError:
    """What a user is told when ``what``, at ``path``, cannot be written."""
    advice = f"{mend_of(path, error)} or choose another place"
    return UserError(f"cannot write {what} ({reason_of(error)}); {advice}: {str(path)!r}")


def reason_of(error: Exception) -> str:
    """Why a write failed, in the words of the system or of the storage."""
    number = errno_of(error)
    if number and not isinstance(error, StorageError):
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error)


def mend_of(path: Place, error: Exception) -> str:
    """What a user can do about ``error``."""
    if isinstance(path, RemotePath):
        return "see to the storage"
    number = errno_of(error)
    if number in _NO_PERMISSION:
        return "see to its permissions"
    return "free the disk" if number in _NO_ROOM else "see to the disk"


def may_pass(error: Exception) -> bool:
    """Whether the same write may succeed later. Whatever a storage refuses may, since a run has begun there."""
    return isinstance(error, StorageError) or errno_of(error) in _PASSING


def errno_of(error: Exception) -> int | None:
    """The system's number of an error; None where there is none."""
    if isinstance(error, OSError):
        return error.errno
    found = _IN_TEXT.search(str(error))
    return int(found[1]) if found else None
