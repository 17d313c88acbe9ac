"""Pacemaker on two machines, with the address that moves and the gateway behind it (docs/ceph.md, Who decides). Minutes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceph.conftest import Images
from tests.ceph.test_faults import Steady
from tests.ceph.test_ocf import AGENT
from tests.support import pacemaker
from tests.support.cluster import Cluster
from tests.support.pacemaker import Site

pytestmark = [
    pytest.mark.skipif(os.environ.get("LUNETTE_CEPH") != "long", reason="starts a cluster manager: LUNETTE_CEPH=long make ceph"),
    pytest.mark.skipif(bool(pacemaker.missing()), reason="apt-get install --no-install-recommends pacemaker corosync"),
    pytest.mark.skipif(os.geteuid() != 0, reason="machines as namespaces take root"),
]
CONFIGURATION = """<configuration><crm_config><cluster_property_set id="options">
<nvpair id="o1" name="stonith-enabled" value="false"/><nvpair id="o2" name="no-quorum-policy" value="ignore"/>
</cluster_property_set></crm_config><nodes/><resources><group id="disks-group">
<meta_attributes id="g"><nvpair id="g1" name="migration-threshold" value="1"/><nvpair id="g2" name="failure-timeout" value="20s"/>
<nvpair id="g3" name="resource-stickiness" value="100"/>
</meta_attributes>
<primitive id="disks-ip" class="ocf" provider="heartbeat" type="IPaddr2"><instance_attributes id="i">
<nvpair id="i1" name="ip" value="{address}"/><nvpair id="i2" name="cidr_netmask" value="24"/></instance_attributes>
<operations><op id="i3" name="monitor" interval="5s"/></operations></primitive>
<primitive id="disks" class="ocf" provider="lunette" type="gateway"><instance_attributes id="d">{parameters}</instance_attributes>
<operations><op id="d3" name="monitor" interval="2s" timeout="30s"/><op id="d4" name="start" interval="0" timeout="90s"/>
<op id="d5" name="stop" interval="0" timeout="60s"/></operations></primitive>
</group></resources><constraints/></configuration>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.__new__(Site)
    try:
        made.__init__(tmp_path)  # type: ignore[misc]
        yield made
    except OSError as error:
        pytest.skip(f"no networks to be had: {error}")
    finally:
        made.close()


def test_a_pool_is_where_pacemaker_says_and_a_wrong_decision_costs_no_data(site: Site, tmp_path: Path) -> None:
    """A planned move, two halves that both want it, a machine that dies: no command ends with an error."""
    with tempfile.TemporaryDirectory(prefix="lntceph", dir="/dev/shm") as directory:
        cluster = Cluster(Path(directory), address=site.address)
        images = Images(cluster, tmp_path)
        try:
            pool = images.gateway().start()
            pool.cli("create", "v", "--size", "16M")
            pool.stop()
            conf = tmp_path / "ceph.conf"
            conf.write_text(cluster.conf.read_text())
            parameters = {
                "pool": str(pool.pool).replace(str(cluster.conf), str(conf)), "listen": f"{site.moving}:3260", "lease": "3",
                "options": "--force-open", "program": f"{sys.executable} -m target", "log": "/var/log/pacemaker/lunette.log"}
            for number in (1, 2):
                site.start(number, AGENT, cluster.directory)
            site.configure(CONFIGURATION.format(address=site.moving, parameters="".join(
                f'<nvpair id="d-{name}" name="{name}" value="{value}"/>' for name, value in parameters.items())))
            pool.portal = parameters["listen"]
            left = judge(site, Steady(pool))
            stand_by(site, left, f"node{left}", on=True)
            site.wait_for(lambda: site.runs_on("disks", left) == "")
            assert "clean" in pool.check()
        finally:
            for machine in site.machines.values():
                machine.kill()
            images.close()
            cluster.close()


def stand_by(site: Site, by: int, name: str, *, on: bool) -> None:
    """Whether a machine is to have nothing."""
    site.machines[by].run("crm_attribute", "-t", "nodes", "-N", name, "-n", "standby", "-v", "on" if on else "off")


def judge(site: Site, load: Steady) -> int:
    """The machine that is left at the end, and serves."""
    try:
        site.wait_for(lambda: load.done > 20)
        here = site.runs_on("disks", 1)
        other = "node2" if here == "node1" else "node1"
        stand_by(site, 1, here, on=True)
        site.wait_for(lambda: site.runs_on("disks", 1) == other)
        load.goes_on()
        stand_by(site, 1, here, on=False)
        site.split(True)            # each thinks that the other one is gone, and both start the gateway
        site.wait_for(lambda: site.runs_on("disks", int(here[-1])) == here)
        load.goes_on()
        site.split(False)
        load.goes_on()
        site.wait_for(lambda: site.runs_on("disks", 1) == site.runs_on("disks", 2) != "")
        load.goes_on()
        dies = int(site.runs_on("disks", 1)[-1])
        site.kill(dies)
        site.wait_for(lambda: site.runs_on("disks", 3 - dies) == f"node{3 - dies}")
        load.goes_on()
        print("longest command, s:", round(load.longest_s, 1))
        return 3 - dies
    finally:
        load.stop()
