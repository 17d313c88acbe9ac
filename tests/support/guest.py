"""A virtual machine with the kernel's iSCSI initiator (QEMU without KVM), driven by commands; nothing of iSCSI itself.

By two network cards the guest reaches the loopback of this machine: as 10.0.2.2 and as 10.0.3.2. `unplug` pulls a cable.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from tests.support.guest_image import GuestImage, NoGuest, guest_image

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 640
BOOT_SECONDS = 300       # emulated, beside whatever else two cores have to do: half a minute where that is little
BOOTS = 2                # at load 18 one did not come up
HOSTS = ("10.0.2.2", "10.0.3.2")


class GuestError(AssertionError):
    """A command failed in the guest, or the guest did."""


class Running:
    """A command under way in the guest."""

    def __init__(self, command: str, answer: Future[tuple[int, str]]) -> None:
        self.command = command
        self._answer = answer

    def wait(self, timeout: float = 200) -> str:
        """Its output, once it has ended with status 0."""
        try:
            status, output = self._answer.result(timeout)
        except TimeoutError:
            raise GuestError(f"{self.command}: no end within {timeout} s") from None
        if status:
            raise GuestError(f"{self.command}: status {status}: {output}")
        return output


class Guest:
    """Booted when constructed; gone when closed."""

    def __init__(self) -> None:
        if shutil.which(QEMU) is None:
            raise NoGuest(f"{QEMU} is not installed (make clients)")
        image = guest_image()
        for left in reversed(range(BOOTS)):
            try:
                self._boot(image)
                return
            except BaseException as error:
                said = self.log()
                self.close()
                if not left or not isinstance(error, Exception):
                    raise GuestError(f"the guest did not come up: {error!r}: {said}") from error

    def _boot(self, image: GuestImage) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="lntguest")
        self._place = Path(self._directory.name)
        self._answers: dict[int, Future[tuple[int, str]]] = {0: Future()}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(self._command(image), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=(self._place / "qemu.log").open("w"))
        self._agent = self._connect("agent")
        self._monitor = self._connect("monitor")
        threading.Thread(target=self._receive, args=(self._agent, self._answers), daemon=True).start()
        self._monitor_lines = self._monitor.makefile("r")
        self._monitor_lines.readline()
        self._execute("qmp_capabilities")
        self._answers[0].result(BOOT_SECONDS)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, command: str) -> Running:
        """Begin a shell command; several may run side by side."""
        with self._lock:
            number = len(self._answers)
            self._answers[number] = Future()
            self._agent.sendall(b"%d %s\n" % (number, base64.b64encode(command.encode())))
        return Running(command, self._answers[number])

    def run(self, command: str, timeout: float = 200) -> str:
        """Run a shell command; its output, or GuestError when its status is not 0."""
        return self.start(command).wait(timeout)

    def wait_for(self, command: str, timeout: float = 120) -> str:
        """Run a command again and again until it succeeds; its output."""
        return self.run(f"for i in $(seq {int(timeout * 5)}); do {{ {command}; }} >/tmp/w.$$ 2>&1 && cat /tmp/w.$$ && exit; "
                        "usleep 200000; done; cat /tmp/w.$$; exit 1", timeout + 30)

    def unplug(self, card: int) -> None:
        """Pull the cable of a card: what is sent is lost without an answer."""
        self._execute("set_link", name=f"card{card}", up=False)

    def plug(self, card: int) -> None:
        self._execute("set_link", name=f"card{card}", up=True)

    def log(self) -> str:
        """The end of what QEMU and the guest's kernel have said, while it is not closed."""
        return "".join((self._place / name).read_text(errors="replace")[-4000:] for name in ("qemu.log", "console.log")
                       if (self._place / name).exists())

    def close(self) -> None:
        """End it without any farewell."""
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        for name in ("_agent", "_monitor"):
            if hasattr(self, name):
                getattr(self, name).close()
        self._directory.cleanup()

    def _command(self, image: GuestImage) -> list[str]:
        place = self._place
        cards = [word for card in range(len(HOSTS))
                 for word in ("-netdev", f"user,id=net{card},net=10.0.{card + 2}.0/24,ipv6=off",
                              "-device", f"virtio-net-pci,netdev=net{card},id=card{card},romfile=")]
        return [QEMU, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB),
                "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(image.kernel), "-initrd", str(image.initramfs),
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
                "-chardev", f"file,id=console,path={place}/console.log", "-serial", "chardev:console",
                "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                "-chardev", f"socket,id=agent,path={place}/agent,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,nr=1",
                "-chardev", f"socket,id=monitor,path={place}/monitor,server=on,wait=off",
                "-mon", "chardev=monitor,mode=control", *cards]

    def _connect(self, name: str) -> socket.socket:
        """To one of QEMU's sockets, which are there a moment after it has started."""
        connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                connection.connect(str(self._place / name))
                return connection
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.02)

    @staticmethod
    def _receive(agent: socket.socket, answers: dict[int, Future[tuple[int, str]]]) -> None:
        """Hand the agent's answers to those who wait for them, until the guest is gone."""
        try:
            with agent.makefile("r") as lines:
                for line in lines:
                    number, status, output = line.rstrip("\n").split(" ")
                    answers[int(number)].set_result((int(status), base64.b64decode(output).decode(errors="replace")))
        except OSError:
            pass
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(GuestError("the guest is gone"))

    def _execute(self, command: str, **arguments: object) -> None:
        """A command to QEMU itself."""
        self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "return" not in (answer := json.loads(self._monitor_lines.readline())):
            if "error" in answer:
                raise GuestError(f"{command}: {answer['error']}")
