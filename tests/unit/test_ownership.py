"""Which files another user could have put there."""

from __future__ import annotations

import os

import pytest

from confpy.system.disk import Disk
from confpy.system.ownership import require_private


@pytest.fixture
def folder(tmp_path):
    """A folder of this user, in another one whose mode and owner the tests change."""
    path = tmp_path / "parent" / "folder"
    path.mkdir(mode=0o700, parents=True)
    return path


class Owned(Disk):
    """A disk that tells of other owners, and of a mount: what is really so takes root."""

    def __init__(self, owners, mounted=None):
        self.owners = owners
        self.mounted = mounted

    def lstat(self, path):
        mode, inode, device, names, uid, *more = super().lstat(path)
        on_it = self.mounted is not None and f"{path}/".startswith(f"{self.mounted}/")
        return os.stat_result([mode, inode, -1 if on_it else device, names, self.owners.get(path, uid), *more])


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o500])
def test_what_only_confpy_can_write_is_trusted(folder, mode):
    folder.chmod(mode)
    assert require_private(str(folder), Disk()) == str(folder)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702, 0o1777])
def test_what_others_can_write_is_not(folder, mode):
    folder.chmod(mode)
    with pytest.raises(PermissionError, match=f"another user owns {folder}, or may write there"):
        require_private(str(folder), Disk(), volumes=True)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o2775, 0o702])
def test_nor_is_what_others_can_exchange(folder, mode):
    folder.parent.chmod(mode)
    with pytest.raises(PermissionError, match=f"another user owns {folder.parent}, or may write there"):
        require_private(str(folder), Disk(), volumes=True)


@pytest.mark.parametrize("mode", [0o1777, 0o3775])
def test_in_a_sticky_folder_no_other_user_can_replace_what_is_confpys(folder, mode):
    folder.parent.chmod(mode)
    assert require_private(str(folder), Disk()) == str(folder)


@pytest.mark.parametrize("mode", [0o755, 0o1777])
@pytest.mark.parametrize("owned", ["folder", "parent"])
def test_what_belongs_to_another_user_is_not_trusted_nor_what_is_in_it(folder, mode, owned):
    folder.parent.chmod(mode)
    path = folder if owned == "folder" else folder.parent
    with pytest.raises(PermissionError, match=f"another user owns {path}"):
        require_private(str(folder), Owned({str(path): 4242}), volumes=True)
    assert require_private(str(folder), Owned({str(path): 0})) == str(folder)


def test_in_a_user_namespace_root_is_who_owns_the_root(folder):
    stranger = dict.fromkeys(map(str, folder.parents), 65534)
    assert require_private(str(folder), Owned(stranger)) == str(folder)
    with pytest.raises(PermissionError, match="another user owns"):
        require_private(str(folder), Owned({**stranger, str(folder): 65534}))


def test_a_volume_that_is_open_to_all_is_trusted_if_asked(folder):
    folder.parent.chmod(0o777)
    mounted = Owned({}, mounted=str(folder.parent))
    assert require_private(str(folder), mounted, volumes=True) == str(folder)
    with pytest.raises(PermissionError, match=f"another user owns {folder.parent}"):
        require_private(str(folder), mounted)
    with pytest.raises(PermissionError, match=f"another user owns {folder.parent}"):
        require_private(str(folder), Owned({str(folder.parent): 4242}, mounted=str(folder.parent)), volumes=True)


def test_the_path_without_links_is_returned_and_checked(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert require_private(str(tmp_path / "link"), Disk()) == str(folder)
    folder.parent.chmod(0o777)
    with pytest.raises(PermissionError):
        require_private(str(tmp_path / "link"), Disk())


def test_what_is_no_folder_or_not_there_is_an_error(folder):
    (folder / "file").touch(0o600)
    with pytest.raises(OSError, match="another user owns"):
        require_private(str(folder / "file"), Disk())
    with pytest.raises(FileNotFoundError):
        require_private(str(folder / "none"), Disk())
