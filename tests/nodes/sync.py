"""Syncthing: two nodes, each with a directory of its own on its own disk, kept in step by a program on each."""

from __future__ import annotations

import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.nodes.grounds import Ground, kernel_release, release_of
from tests.nodes.sides import Network, Side, need, sh

NODES = ["c1", "c2"]
FOLDER = "synced"  # the one scenario's spool
PORT = 22000
# Nothing leaves the name space, and nobody is asked.
OPTIONS = {
    "globalAnnounceEnabled": "false", "localAnnounceEnabled": "false", "relaysEnabled": "false", "natEnabled": "false",
    "urAccepted": "-1", "crashReportingEnabled": "false", "reconnectionIntervalS": "3", "startBrowser": "false",
    "autoUpgradeIntervalH": "0",
}  # fmt: skip


class Syncthing(Ground):
    """Two real instances that share one folder."""

    name = "syncthing"
    can = frozenset({"cut"})
    locks_are_shared = False
    scenarios = ("synced",)

    def start(self) -> None:
        """Make both instances known to each other and start them."""
        need("syncthing")
        self.network = Network(NODES)
        homes = {node: self.root / f"home-{node}" for node in NODES}
        for node in NODES:
            (self.root / f"disk-{node}" / FOLDER).mkdir(parents=True)
            sh("syncthing", "generate", f"--home={homes[node]}", "--no-default-folder", env={"HOME": str(homes[node])})
        ids = {node: _own_id(homes[node]) for node in NODES}
        for node in NODES:
            self._configure(homes[node], node, ids)
            with open(self.root / f"syncthing-{node}.log", "wb") as log:
                command = ["syncthing", "serve", f"--home={homes[node]}", "--no-browser", "--no-restart"]
                program = subprocess.Popen(
                    [*self.network.prefix(node), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={"HOME": str(homes[node]), "PATH": "/usr/bin:/bin"},
                )  # fmt: skip
            self.stack.callback(program.kill)
            self.sides.append(Side(node, self.root / f"disk-{node}", self.root / node, self.network.prefix(node)))
        time.sleep(3)

    def _configure(self, home: Path, node: str, ids: dict[str, str]) -> None:
        assert self.network
        tree = ET.parse(home / "config.xml")
        root = tree.getroot()
        for old in [*root.findall("folder"), *root.findall("device")]:
            root.remove(old)
        folder = ET.SubElement(
            root, "folder", id=FOLDER, label=FOLDER, path=str(self.root / f"disk-{node}" / FOLDER), type="sendreceive",
            rescanIntervalS="10", fsWatcherEnabled="true", fsWatcherDelayS="1",
        )  # fmt: skip
        for other, identity in ids.items():
            ET.SubElement(folder, "device", id=identity)
            device = ET.SubElement(root, "device", id=identity, name=other, compression="never")
            ET.SubElement(device, "address").text = f"tcp://{self.network.address[other]}:{PORT}"
        options = root.find("options")
        assert options is not None
        for key, value in {**OPTIONS, "listenAddress": f"tcp://{self.network.address[node]}:{PORT}"}.items():
            for old in options.findall(key):
                options.remove(old)
            ET.SubElement(options, key).text = value
        tree.write(home / "config.xml")

    def versions(self) -> str:
        """Return which versions of what are tried."""
        return f"Syncthing {release_of(['syncthing', '--version'], 1)}, two instances, Linux {kernel_release()}"


def _own_id(home: Path) -> str:
    device = ET.parse(home / "config.xml").getroot().find("device")
    assert device is not None
    return device.attrib["id"]
