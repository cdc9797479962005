"""What a test needs of the operating system, for a user who may not install it."""

import os

import pytest

from tests.debian import require, require_library


def test_a_user_who_may_not_install_skips_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("tests.debian.shutil.which", lambda name: name if name == "apt-get" else None)
    why = r"is missing \(only root may install packages\); install it with: apt-get install"
    with pytest.raises(pytest.skip.Exception, match=rf"^no-such-program {why} its-package$"):
        require("no-such-program", "its-package")
    with pytest.raises(pytest.skip.Exception, match=rf"^libnothing\.so\.1 {why} libnothing1$"):
        require_library("libnothing.so.1", "libnothing1")
