"""A new Debian machine in a folder: made by debootstrap, entered with chroot, removed afterwards.

Every command runs in mount and process namespaces of its own: its mounts are seen by it alone and end with
it, whatever ends it. So nothing is mounted in the folder when it is removed.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.fresh_machine import pip_settings

PACKAGES = ("python3", "make", "git")
NAMESPACE = ("unshare", "--mount", "--propagation", "private")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class User:
    """Who runs the commands. `home` None: HOME is not set, and the id has no name."""

    name: str
    uid: int
    home: str | None


ROOT = User("root", 0, "/root")
PERSON = User("a user without sudo", 1000, "/home/person")
NAMELESS = User("an id without a name, HOME unset", 12345, None)


class Machine:
    """A machine in `folder`."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        self.suite = suite
        self._pip = pip_settings.variables()

    def make(self, repository: Path, log: Path) -> None:
        """Install the suite's smallest system and PACKAGES, and bring the repository's HEAD along.

        Raises CalledProcessError.
        """
        with log.open("a") as output:
            command = [*NAMESPACE, "debootstrap", "--variant=minbase", self.suite, str(self.folder)]
            subprocess.run(command, stdout=output, stderr=output, check=True)
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc", name), self.folder / "etc" / name)
        (self.folder / "etc/apt/apt.conf.d/90proxy").write_text(pip_settings.apt_proxies())
        install = f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y install {' '.join(PACKAGES)}"
        self.run(
            ROOT, f"apt-get -qq update && {install} && useradd --create-home --uid {PERSON.uid} person", log
        )
        bundle = self.folder / "srv/llava-gateway.bundle"
        subprocess.run(["git", "-C", repository, "bundle", "create", "-q", bundle, "HEAD"], check=True)
        bundle.chmod(0o644)
        for path in pip_settings.local_paths(self._pip):
            here = self._inside(path)
            if path.is_file():
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, here)

    def clone(self, user: User, log: Path) -> str:
        """Clone the repository as `user`; return the folder of the clone as the machine sees it."""
        place = f"/srv/{user.uid}"
        self.run(ROOT, f"install -d -o {user.uid} -g {user.uid} {place}", log)
        self.run(user, f"git clone -q /srv/llava-gateway.bundle {place}/llava-gateway", log)
        return f"{place}/llava-gateway"

    def run(self, user: User, command: str, log: Path) -> None:
        """Run the shell command as `user`. Raises CalledProcessError."""
        process = self.start(user, command, log)
        try:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, command)
        finally:
            if process.poll() is None:
                process.kill()  # unshare's child, and so all of the namespace, ends with it
                process.wait()

    def start(self, user: User, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start the shell command as `user`, in a session of its own."""
        with log.open("a") as output:
            return subprocess.Popen(
                self.command(user, command),
                env=self._pip | {"PATH": PATH} | ({"HOME": user.home} if user.home else {}),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def command(self, user: User, command: str) -> list[str]:
        """Return the command line: namespaces, mounts, chroot, and a shell of the user."""
        steps = [
            f"mount -t proc proc {self._quoted('/proc')}",
            f"mount -t sysfs -o ro sys {self._quoted('/sys')}",
        ]
        steps.append(f"mount -t tmpfs tmpfs {self._quoted('/dev/shm')}")  # the new machine's
        steps.append(f"mount -t devpts -o newinstance,ptmxmode=0666 devpts {self._quoted('/dev/pts')}")
        # A bind mount over the device that debootstrap made.
        steps.append(f"mount --bind {self._quoted('/dev/pts/ptmx')} {self._quoted('/dev/ptmx')}")
        for path in pip_settings.local_paths(self._pip):
            if path.is_dir():
                here = shlex.quote(str(self._inside(path)))
                steps += [f"mkdir -p {here}", f"mount --bind -o ro {shlex.quote(str(path))} {here}"]
        ids = f"--userspec={user.uid}:{user.uid}" + (" --groups=" if user.uid else "")
        # env: chroot sets HOME by itself. exit: no exec, the first process of a namespace gets no signals.
        home = "" if user.home else "env -u HOME "
        steps.append(f"chroot {ids} {self._quoted('/')} {home}sh -c {shlex.quote(command)} || exit $?")
        return [*NAMESPACE, "--pid", "--fork", "--kill-child", "sh", "-ec", "\n".join(steps)]

    def remove(self) -> None:
        """Remove the folder. Raises RuntimeError if something is mounted in it."""
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        inside = [path for path in mounted if Path(path).is_relative_to(self.folder)]
        if inside:
            raise RuntimeError(f"{self.folder} is not removed, because something is mounted in it: {inside}")
        subprocess.run(["rm", "-rf", "--one-file-system", self.folder], check=True)

    def strays(self, checkout: str) -> str:
        """Return what git sees in `checkout` that is not of the repository."""
        folder = self._inside(Path(checkout))
        command = ["git", "-c", "safe.directory=*", "-C", str(folder), "status", "--porcelain"]
        return " ".join(subprocess.check_output(command, text=True).split())

    def _inside(self, path: Path) -> Path:
        return self.folder / path.relative_to("/")

    def _quoted(self, path: str) -> str:
        return shlex.quote(str(self._inside(Path(path))))


def missing_programs(programs: Sequence[str] = ("debootstrap", "unshare", "chroot", "git")) -> str | None:
    """Return what this program cannot do here, or None."""
    if os.geteuid() != 0:
        return "only root can make machines: debootstrap and chroot need its rights"
    missing = [
        program for program in programs if shutil.which(program, path=f"{os.environ['PATH']}:{PATH}") is None
    ]
    return f"missing: apt-get install {' '.join(missing)}" if missing else None
