"""The page in a real browser: what people do with it, by mouse and keyboard, in both themes, on a phone, with 5,000 objects."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from target.iscsi.pdu import Pdu
from tests.page.conftest import AXE, ROOT, Site, Watched
from tests.support.session import Connection, read10
from tests.support.waiting import until

Visit = Callable[..., Watched]
PARTS = ("Overview", "Objects", "Family", "Hosts", "Jobs", "Schedules", "Mirrors", "Tokens", "Events")


def test_nobody_sees_anything_without_a_token(visit: Visit) -> None:
    page = visit()
    page.tab.goto(page.site.url + "/")
    page.tab.get_by_role("heading", name="Sign in").wait_for()
    assert "web" not in page.tab.content()
    page.sign_in("lnt_no_token")
    page.tab.get_by_text("The token is not valid", exact=False).wait_for()
    page.sign_in()
    page.tab.get_by_text("All is well").wait_for()
    page.tab.get_by_role("button", name="Sign out").click()
    page.tab.get_by_role("heading", name="Sign in").wait_for()


def test_a_volume_is_made_snapshotted_cloned_and_deleted_and_each_says_what_comes_of_it(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Objects")
    tab = page.tab
    tab.get_by_role("button", name="Create a volume").click()
    tab.get_by_label("Name", exact=True).fill("made")
    tab.get_by_label("Size", exact=True).fill("much")
    tab.get_by_role("button", name="Create", exact=True).click()
    tab.get_by_text("much is not a size", exact=False).wait_for()
    tab.get_by_label("Size", exact=True).fill("2G")
    tab.get_by_role("button", name="Create", exact=True).click()
    tab.get_by_role("gridcell", name="made", exact=True).click()
    tab.get_by_role("button", name="Snapshot").click()
    tab.get_by_label("Label").fill("first")
    tab.get_by_role("button", name="Take it").click()
    tab.get_by_role("gridcell", name="made@first").click()
    tab.get_by_role("button", name="Clone").click()
    tab.get_by_label("Name", exact=True).fill("made-too")
    tab.get_by_role("dialog").get_by_role("button", name="Clone").click()
    tab.get_by_role("gridcell", name="made-too").wait_for()
    assert {"made", "made@first", "made-too"} <= set(page.site.daemon.ls())

    tab.get_by_role("gridcell", name="made", exact=True).click()
    tab.get_by_role("button", name="Delete").click()
    tab.get_by_text("Snapshots of it that stay as orphans, to which nothing can be reverted: 1.", exact=False).wait_for()
    go = tab.get_by_role("button", name="Delete for ever")
    assert go.is_disabled()
    tab.get_by_label("Type made to confirm").fill("made-")
    assert go.is_disabled()
    tab.get_by_label("Type made to confirm").fill("made")
    go.click()
    tab.get_by_role("gridcell", name="made", exact=True).wait_for(state="detached")
    assert "made" not in page.site.daemon.ls()
    page.part("Events")
    tab.get_by_role("row", name="delete made").first.wait_for()


def test_what_loses_data_is_refused_until_it_is_forced(visit: Visit) -> None:
    page = visit()
    page.site.daemon.cli("create", "wide", "--size", "8M")
    page.sign_in()
    page.part("Objects")
    tab = page.tab
    tab.get_by_role("gridcell", name="wide").click()
    tab.get_by_role("button", name="Resize").click()
    tab.get_by_label("Size", exact=True).fill("4M")
    assert not tab.get_by_label("Do it all the same").is_visible()
    tab.get_by_role("dialog").get_by_role("button", name="Resize").click()
    tab.get_by_text("its last 4M are lost", exact=False).wait_for()
    tab.get_by_label("Do it all the same").check()
    tab.get_by_role("dialog").get_by_role("button", name="Resize").click()
    tab.get_by_role("dialog").wait_for(state="detached")
    assert page.site.daemon.ls()["wide"]["size_bytes"] == 4 << 20
    page.site.daemon.cli("delete", "wide")


def test_what_is_held_has_no_delete_and_a_held_mark(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Objects")
    row = page.tab.get_by_role("row", name="web@tuesday")
    assert "held" in row.inner_text()
    row.click()
    page.tab.get_by_role("button", name="Release").wait_for()
    assert page.tab.get_by_role("button", name="Delete").count() == 0


def test_the_family_tree_shows_who_comes_from_whom(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Family")
    page.tab.get_by_label("Of", exact=True).select_option("web")
    links = page.tab.locator("svg a")

    def names() -> list[str]:
        return [link.locator("text").first.text_content() for link in links.all()]
    until(lambda: names() == ["web", "web@monday", "web-test", "web-test@try", "web@tuesday"], names)
    page.tab.get_by_role("link", name="web-test clone").click()
    page.tab.get_by_role("heading", name="web-test").wait_for()


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Objects")
    tab = page.tab
    objects = sorted(page.site.daemon.ls())

    def focused(what: str) -> str:
        return str(tab.evaluate(f"document.activeElement.{what}"))

    def selected() -> str:
        return str(tab.get_by_role("row", selected=True).inner_text())

    tab.get_by_role("gridcell", name=objects[0], exact=True).wait_for()
    for _ in range(30):
        tab.keyboard.press("Tab")
        if focused("getAttribute('role')") == "grid":
            break
    else:
        pytest.fail("the grid is not reached by Tab")
    tab.keyboard.press("End")
    until(lambda: selected().startswith(objects[-1]), selected)
    tab.keyboard.press("Home")
    until(lambda: selected().startswith(objects[0]), selected)
    tab.keyboard.press("ArrowDown")
    until(lambda: selected().startswith(objects[1]), selected)
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name=objects[1], exact=True).wait_for()
    until(lambda: focused("textContent") == objects[1], lambda: focused("outerHTML"))
    tab.get_by_role("button", name="Rename").focus()
    tab.keyboard.press("Enter")
    until(lambda: focused("id") == "field-new_name", lambda: focused("outerHTML"))
    tab.keyboard.press("Escape")
    until(lambda: focused("textContent") == "Rename", lambda: focused("outerHTML"))


def test_a_job_is_seen_and_cancelled(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Jobs")
    page.site.daemon.cli("scrub", "--rate", "1", "--background")
    page.tab.get_by_role("button", name="Cancel scrub").click()
    page.tab.get_by_text("cancelled").first.wait_for()
    until(lambda: page.site.get("/v1/scrub")["state"] == "stopped")


def test_a_schedule_is_paused_and_resumed(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Schedules")
    page.tab.get_by_role("button", name="Pause nightly").click()
    page.tab.get_by_role("button", name="Resume nightly").click()
    page.tab.get_by_role("button", name="Pause nightly").wait_for()


def test_a_host_is_made_changed_and_deleted(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Hosts")
    tab = page.tab
    tab.get_by_role("button", name="Create a host").click()
    tab.get_by_label("Name", exact=True).fill("rack7")
    tab.get_by_label("Initiators").fill("iqn.2026-01.test:rack7 iqn.2026-01.test:rack7b")
    tab.get_by_label("CHAP secret").fill("short")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    tab.get_by_text("12 to 255 bytes", exact=False).wait_for()
    tab.get_by_label("CHAP secret").fill("long-enough-for-chap")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    row = tab.get_by_role("row", name="rack7")
    row.get_by_role("cell", name="yes").wait_for()
    page.site.daemon.cli("connect", "db", "--host", "rack7", "--lun", "4")
    tab.get_by_role("button", name="Change rack7").click()
    tab.get_by_label("Initiators").fill("iqn.2026-01.test:rack7")
    tab.get_by_role("dialog").get_by_role("button", name="Change").click()
    tab.get_by_role("dialog").wait_for(state="detached")
    found = {each["name"]: each for each in page.site.get("/v1/hosts")}
    assert found["rack7"]["initiators"] == ["iqn.2026-01.test:rack7"]
    assert "long-enough-for-chap" not in tab.content()
    tab.get_by_text("4: db", exact=False).wait_for()
    tab.get_by_role("button", name="Delete rack7").click()
    tab.get_by_text("LUNs of it that go: 4: db", exact=False).wait_for()
    tab.get_by_label("Type rack7 to confirm").fill("rack7")
    tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")
    assert "rack7" not in {each["name"] for each in page.site.get("/v1/hosts")}


def test_a_token_is_made_shown_once_and_deleted(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Tokens")
    tab = page.tab
    tab.get_by_role("button", name="Create a token").click()
    tab.get_by_label("Name", exact=True).fill("robot")
    tab.get_by_label("Scope").select_option("operate")
    tab.get_by_label("Only objects whose names begin with").fill("db")
    tab.get_by_label("Good for").fill("soon")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    tab.get_by_text("soon is not a time", exact=False).wait_for()
    tab.get_by_label("Good for").fill("12h")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    token = tab.get_by_label("This is the only time that it is shown.").input_value()
    assert token.startswith("lnt_")
    tab.get_by_role("button", name="Close").click()
    assert token not in tab.content()
    other = visit()
    other.sign_in(token)
    other.part("Tokens")
    other.tab.get_by_text("This token may not see tokens", exact=False).wait_for()
    tab.get_by_role("button", name="Delete robot").click()
    tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
    tab.get_by_role("row", name="robot").wait_for(state="detached")
    other.tab.get_by_text("The token is not valid", exact=False).wait_for()


def test_a_schedule_is_made_and_deleted(visit: Visit) -> None:
    page = visit()
    page.sign_in()
    page.part("Schedules")
    tab = page.tab
    tab.get_by_role("button", name="Create a schedule").click()
    tab.get_by_label("Name", exact=True).fill("hourly")
    tab.get_by_label("Volumes", exact=True).fill("db*")
    tab.get_by_label("When", exact=True).fill("every hour")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    tab.get_by_text("not a schedule of cron", exact=False).wait_for()
    tab.get_by_label("When", exact=True).fill("0 * * * *")
    tab.get_by_role("dialog").get_by_role("button", name="Create").click()
    row = tab.get_by_role("row", name="hourly")
    row.wait_for()
    assert "hourly" in {each["name"] for each in page.site.get("/v1/schedules")}
    tab.get_by_role("button", name="Delete hourly").click()
    tab.get_by_label("Type hourly to confirm").fill("hourly")
    tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")


def test_who_has_it_open_is_said_before_it_is_deleted(visit: Visit) -> None:
    page = visit()
    daemon = page.site.daemon
    daemon.cli("create", "busy", "--size", "8M")
    session = Connection(daemon.port, daemon.target, name="iqn.2026-01.test:busy")
    try:
        session.send(read10(0, 1, 1, 1, lun=bytes((0, daemon.ls()["busy"]["lun"])) + bytes(6)))
        session.receive(Pdu)
        page.sign_in()
        page.part("Objects")
        page.tab.get_by_role("gridcell", name="busy").click()
        page.tab.get_by_role("button", name="Delete").click()
        page.tab.get_by_text("It is open now: iqn.2026-01.test:busy from 127.0.0.1", exact=False).wait_for()
        page.tab.get_by_label("Type busy to confirm").fill("busy")
        page.tab.get_by_role("button", name="Delete for ever").click()
        page.tab.get_by_text("busy is in use by iqn.2026-01.test:busy", exact=False).wait_for()
        assert "busy" in daemon.ls()
        page.tab.get_by_label("Do it all the same").check()
        page.tab.get_by_role("button", name="Delete for ever").click()
        page.tab.get_by_role("dialog").wait_for(state="detached")
        assert "busy" not in daemon.ls()
    finally:
        session.close()


def test_who_may_only_look_is_told_so(visit: Visit) -> None:
    page = visit()
    page.sign_in(page.site.make_token("looker", "read", "--prefix", "db"))
    page.part("Objects")
    page.tab.get_by_role("gridcell", name="db").click()
    until(lambda: page.tab.get_by_role("row").count() == 2)    # the head, and all that it may see
    page.tab.get_by_role("button", name="Snapshot").click()
    page.tab.get_by_role("button", name="Take it").click()
    page.tab.get_by_text("has the scope read, and this needs operate", exact=False).wait_for()


def test_nothing_comes_from_elsewhere_and_text_is_never_html(visit: Visit) -> None:
    page = visit()
    text = "<img src=x onerror=document.title='hacked'>"
    page.site.daemon.cli("label", "db", f"evil={text}")
    page.sign_in()
    page.tab.get_by_text("All is well").wait_for()
    page.complaints.clear()         # the browser's own word on the 401 before the sign-in
    for part in PARTS:
        page.part(part)
    page.part("Objects")
    page.tab.get_by_role("gridcell", name="db", exact=True).click()
    page.tab.get_by_text(text, exact=False).wait_for()
    assert "hacked" not in page.tab.title()
    assert page.complaints == []
    assert [url for url in page.asked if not url.startswith(page.site.url)] == []
    page.site.daemon.cli("label", "db", "evil-")


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")])
def test_each_part_is_accessible_and_fits(visit: Visit, width: int, theme: str) -> None:
    page = visit(width=width, theme=theme)
    page.sign_in()
    page.tab.get_by_text("All is well").wait_for()
    for part in PARTS:
        page.part(part)
        if part == "Objects":
            page.tab.get_by_role("gridcell", name="web", exact=True).click()
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width, part
        check_accessible(page, f"{part} {width} {theme}")
    page.part("Objects")
    page.tab.get_by_role("gridcell", name="db", exact=True).click()
    page.tab.get_by_role("button", name="Delete").click()
    check_accessible(page, f"dialog {width} {theme}")
    page.tab.keyboard.press("Escape")
    for part, making in (("Hosts", "Create a host"), ("Tokens", "Create a token"), ("Schedules", "Create a schedule")):
        page.part(part)
        page.tab.get_by_role("button", name=making).click()
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width, making
        check_accessible(page, f"{making} {width} {theme}")
        page.tab.keyboard.press("Escape")


def check_accessible(page: Watched, where: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not there (make page)")
    page.tab.evaluate(AXE.read_text())
    found = page.tab.evaluate("axe.run({resultTypes: ['violations']}).then((each) => each.violations.map((one) => "
                              "[one.id, one.impact, one.nodes.slice(0, 3).map((node) => node.html)]))")
    assert [each for each in found if each[1] in ("serious", "critical")] == [], where


def test_the_theme_is_chosen_and_kept(visit: Visit) -> None:
    page = visit(theme="light")
    page.sign_in()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.tab.evaluate(ground)
    page.tab.get_by_role("button", name="Theme").click()
    until(lambda: page.tab.evaluate(ground) != light)
    page.tab.reload()
    page.tab.get_by_text("All is well").wait_for()
    until(lambda: page.tab.evaluate(ground) != light)


def test_the_picture_of_the_readme(visit: Visit) -> None:
    """Made anew with LUNETTE_PICTURES=1."""
    page = visit(width=1100, height=350)
    page.sign_in()
    page.part("Family")
    page.tab.get_by_label("Of", exact=True).select_option("web")
    page.tab.get_by_role("link", name="web-test clone").wait_for()
    picture = page.tab.screenshot()
    if os.environ.get("LUNETTE_PICTURES"):
        (ROOT / "docs" / "images" / "page.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")


def test_five_thousand_objects_do_not_stall_it(visit: Visit, site: Site) -> None:
    site.daemon.cli("create", "many", "--size", "1M")
    site.daemon.cli("batch", stdin="".join(f"snapshot many@s{number:04}\n" for number in range(5000)))
    page = visit()
    page.sign_in()
    page.part("Objects")
    tab = page.tab
    tab.get_by_text("5007 objects").or_(tab.get_by_text("objects", exact=False)).first.wait_for()
    tab.get_by_label("Search").fill("many@")
    tab.get_by_text("5000 of", exact=False).wait_for()
    tab.get_by_role("grid").focus()
    tab.keyboard.press("End")
    tab.get_by_role("gridcell", name="many@s4999").wait_for()
    until(lambda: tab.get_by_role("row").count() < 60)         # those in sight, and some beyond
    tab.get_by_label("Search").fill("s2500")
    tab.get_by_text("1 of", exact=False).wait_for()
    until(lambda: tab.get_by_role("gridcell", name="many@s2500").count() == 1)
    page.part("Family")
    tab.get_by_label("Of", exact=True).select_option("many")
    tab.get_by_text("4992 older snapshots").wait_for()
    until(lambda: tab.locator("svg .node").count() == 10)
