"""The page is read by a browser, where there is one: Chromium, driven by Playwright."""

import base64
import io
import json
import re
import shutil
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxflow import viewer, viz


def data_of(page):
    text = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    return json.loads(text[1])


def numbers(text, shape):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.ascontiguousarray(planes.reshape(4, -1).T).view("<f4").reshape(shape)


def picture(address):
    coded = address.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))))


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(2, 12, 17, 2)).astype(np.float32) * 3
    flow[1, 4, 5] = np.nan
    frames = rng.integers(0, 256, (3, 12, 17, 3), dtype=np.uint8)
    return flow, frames


def test_holds_the_numbers_to_the_last_bit(clip):
    flow, frames = clip
    page = viewer.render(flow, frames=frames, target=flow + 1, names=["a", "b"])
    data = data_of(page)
    for t, pair in enumerate(data["frames"]):
        np.testing.assert_array_equal(numbers(pair["flow"], flow[t].shape), flow[t])
        np.testing.assert_array_equal(
            numbers(pair["truth"], flow[t].shape), flow[t] + 1
        )
    assert data["size"] == [12, 17]
    assert [pair["name"] for pair in data["frames"]] == ["a", "b"]
    assert "mean error 1.414 px" in data["frames"][0]["facts"]


def test_pictures_are_those_of_viz_and_the_warp_is_opencvs(clip):
    flow, frames = clip
    pair = data_of(viewer.render(flow, frames=frames, max_flow=5.0))["frames"][0]
    found = {view: picture(address) for view, address in pair["pictures"].items()}
    assert set(found) == {"flow", "frame1", "frame2", "warped"}
    np.testing.assert_array_equal(
        found["flow"], viz.flow_to_image(flow[0], max_flow=5.0)
    )
    np.testing.assert_array_equal(found["frame1"], frames[0])
    grid = np.stack(np.meshgrid(np.arange(17), np.arange(12)), -1).astype(np.float32)
    points = grid + flow[0]
    inside = ((points >= 0) & (points <= (16, 11))).all(-1)
    expected = cv2.remap(frames[1].astype(np.float32), points, None, cv2.INTER_LINEAR)
    # OpenCV rounds places to 1/32 pixel.
    difference = np.abs(found["warped"].astype(float) - expected)[inside]
    assert difference.max() < 255 / 16
    assert (found["warped"][~inside] == 128).all()


def test_second_frames_may_be_others_than_the_next(clip):
    flow, frames = clip
    page = viewer.render(flow, frames=frames[1:], second_frames=frames[:2])
    for t, pair in enumerate(data_of(page)["frames"]):
        found = {view: picture(address) for view, address in pair["pictures"].items()}
        np.testing.assert_array_equal(found["frame1"], frames[t + 1])
        np.testing.assert_array_equal(found["frame2"], frames[t])
    still = viewer.render(flow * 0, frames=frames[1:], second_frames=frames[:2])
    warped = data_of(still)["frames"][0]["pictures"]["warped"]
    np.testing.assert_array_equal(picture(warped), frames[0])


def test_unknown_flow_is_said_and_never_counted(clip):
    flow, _ = clip
    valid = np.ones(flow.shape[:3], bool)
    valid[0, 0, 0] = False
    target = flow.copy()
    target[0, 0, 0] = 1e3
    pair = data_of(viewer.render(flow, valid=valid, target=target, target_valid=valid))[
        "frames"
    ][0]
    assert np.isnan(numbers(pair["flow"], flow[0].shape)[0, 0]).all()
    assert "mean error 0.000 px" in pair["facts"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"frames": [np.zeros((12, 17, 3), np.uint8)]}, "`frames` must be 2 or 3"),
        (
            {"second_frames": [np.zeros((12, 17, 3), np.uint8)] * 2},
            "`second_frames` and `frames` must be 2 pictures each",
        ),
        ({"frames": [np.zeros((12, 16, 3), np.uint8)] * 2}, "`frames` must have"),
        ({"frames": [np.full((12, 17, 3), 7.0)] * 2}, "divide 8-bit"),
        ({"target": np.zeros((2, 12, 16, 2))}, "`target` must have the shape"),
        ({"valid": np.ones((12, 17))}, "`valid` must have the shape"),
        ({"names": ["one"]}, "`names` must be 2"),
        ({"max_flow": 0.0}, "`max_flow` must be a positive"),
        ({"fps": np.nan}, "`fps` must be a positive"),
    ],
)
def test_bad_input_is_one_line(clip, keywords, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        viewer.render(clip[0], **keywords)


def test_text_is_no_markup(clip):
    page = viewer.render(clip[0], title="<b>&", names=["</script><i>", "x"])
    assert "&lt;b&gt;&amp;" in page
    assert "<i>" not in page
    assert data_of(page)["frames"][0]["name"] == "</script><i>"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser, clip, tmp_path, scheme):
    flow, frames = clip
    path = tmp_path / "view.html"
    path.write_text(viewer.render(flow, frames=frames, target=flow * 2), "utf-8")
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
    faults = []
    page.on("pageerror", lambda error: faults.append(error))
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    page.goto(path.as_uri())

    def value(name):
        return page.locator(f'dd[data-name="{name}"]').inner_text(timeout=5000)

    # The value under the pointer is that of the array.
    box = page.locator("#stage").bounding_box()
    x, y = 13, 7
    page.mouse.move(
        box["x"] + (x + 0.5) * box["width"] / 17,
        box["y"] + (y + 0.5) * box["height"] / 12,
    )
    assert value("x, y") == "13, 7"
    assert value("u (right)") == f"{flow[0, y, x, 0]:+.3f} px".replace("-", "−")
    assert value("v (down)") == f"{flow[0, y, x, 1]:+.3f} px".replace("-", "−")
    error = np.hypot(*flow[0, y, x].astype(float))
    assert value("error") == f"{error:.3f} px"

    # Everything by keys: the cursor, the frame, the view, arrows, blinking.
    page.locator("#stage").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    assert value("x, y") == "12, 0"
    page.keyboard.press(".")
    page.locator('dd[data-name="u (right)"]').filter(
        has_text=f"{flow[1, 0, 12, 0]:+.3f}".replace("-", "−")
    ).wait_for(timeout=5000)
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    assert value("x, y") == "5, 4"
    assert value("flow") == "unknown"
    page.keyboard.press(",")

    for key, name in enumerate(
        ("Flow", "Frame 1", "Frame 2", "Warped frame 2", "Blink", "True flow", "Error")
    ):
        page.keyboard.press(str(key + 1))
        pressed = page.locator("#views button[aria-pressed=true]")
        assert pressed.inner_text() == name
    page.keyboard.press(" ")
    seen = set()
    for _ in range(8):
        seen.add(page.locator("#picture").get_attribute("alt").split(" of ")[0])
        page.wait_for_timeout(200)
    assert seen == {"Frame 1", "Warped frame 2"}
    page.keyboard.press("1")
    page.keyboard.press("a")
    drawn = page.evaluate(
        "() => { const c = document.getElementById('marks'); return c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(value => value > 0) }"
    )
    assert drawn

    # A telephone's width is enough, and dark is dark.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(20, 23, 27)") == (scheme == "dark")
    page.keyboard.press("d")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != back
    assert not faults
    page.close()
