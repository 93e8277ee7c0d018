"""plots.report: one page that needs no other file, opened in a real browser. Whatever names and records hold is shown as text."""

import json
import re
import shutil
from pathlib import Path

import pytest

from inspo_benchmark.plots import load, report
from support.results import write

EVIL = "<script>window.sprung = 1</script><img src=x onerror='window.sprung = 1'>"
CHROME, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


def fill(out: Path) -> Path:
    """Runs of every kind, some with texts that would do harm as HTML; the record of a failure and its log; a missing run."""
    for algo, skill in (("bc", 0.4), ("inspo", 0.9), ("other", 0.6)):
        for task in ("xor-ab", "bridge-mix"):
            about = dict(code={"revision": "0" * 40, "dirty": True}, versions={"torch": EVIL}, machine={"system": EVIL})
            write(out, algo, task, skill=skill, wall_seconds=36.0, peak_memory=1 << 30, **about)
    write(out, "inspo", "xor-ab", overrides={"beta": EVIL}, key="o", skill=0.1)
    write(out, "bc", "xor-all", seeds=[0, 1, 2], preset="")
    path = write(out, "other", "xor-all", seeds=[0, 1, 2])
    path.write_text(path.read_text() + "".join(f"other,xor-all,{k},1000,distinct_episodes,{x}\n" for k, x in enumerate((0.003, 0.9, 0.01))))
    note = Path(out, "unfinished", "bc", "mne-balanced-0.json")
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"algo": "bc", "task": "mne-balanced", "seeds": [0, 1], "reason": f"step 3: not a number {EVIL}"}))
    note.with_name("xor-ab-1.json").write_text("{")
    log = Path(out, "logs", "bc", "mne-balanced-0.log")
    log.parent.mkdir(parents=True)
    log.write_text("many lines\n" * 5000 + f"the last line {EVIL}")
    assert report.main(["--out", str(out)]) == 0
    return out / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser(page):
    if not (CHROME and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    chrome.get(page.as_uri())
    yield chrome
    chrome.quit()


def column(browser, table: str, k: int) -> list[str]:
    """The visible texts of a column."""
    cells = f"return [...document.querySelectorAll('{table} tbody tr')].filter(r => !r.hidden).map(r => r.cells[{k}].textContent)"
    return browser.execute_script(cells)


def test_the_page_loads_without_errors_and_without_the_network(browser):
    assert browser.title.startswith("Results: Games")
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"].partition(":")[0] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert asked <= {"file", "data"}
    loaded = "return [...document.images].map(image => { image.loading = 'eager'; return image.decode().then(() => 1) }).length"
    assert browser.execute_script(loaded) >= 12
    widths = "return Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    assert min(browser.execute_script(widths)) > 100


def test_text_from_files_is_escaped(browser):
    assert browser.execute_script("return window.sprung") is None
    assert browser.execute_script("return document.scripts.length") == 2
    note = browser.find_element("id", "unfinished").find_element("xpath", "following-sibling::details")
    assert "window.sprung" in note.get_attribute("textContent")
    for button in browser.find_elements("css selector", "#results .open"):
        browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script("return window.sprung") is None
    for button in browser.find_elements("css selector", "#results .open"):
        browser.execute_script("arguments[0].click()", button)
    assert browser.get_log("browser") == []


def test_evaluations_of_a_single_episode_are_listed(page):
    text = page.read_text()
    assert '<p class="warning">Greedy policies of 1 experiment act' in text
    row = "<tr><td>OTHER</td><td></td><td>xor-all</td><td>0, 2</td></tr>"
    assert row in text[text.index('<h2 id="alike">') : text.index('<h2 id="provenance">')]


def test_tables_sort_both_ways_by_number(browser):
    heading = browser.find_element("css selector", "#results th:nth-child(5) button")
    heading.click()
    up = column(browser, "#results", 4)
    numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text in up]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    heading.click()
    assert [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(browser, "#results", 4)] == sorted(numbers, reverse=True)
    assert heading.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    browser.find_element("css selector", "#results th:nth-child(2) button").click()
    tasks = column(browser, "#results", 1)
    assert tasks == sorted(tasks)
    foot = "return [...document.querySelector('tfoot').rows].map(r => r.cells[0].textContent)"
    before = browser.execute_script(foot)
    browser.find_element("css selector", "section thead th:nth-child(4) button").click()
    assert browser.execute_script(foot) == before  # sums stay below


def test_no_column_is_cut_and_the_first_one_stays(browser):
    fits = "return [...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)"
    assert browser.execute_script(fits)
    browser.set_window_size(500, 1000)
    shift = "const box = document.querySelector('.scroll'); box.scrollLeft = 100; "
    stays = "return [box.scrollLeft, box.querySelector('td').getBoundingClientRect().left - box.getBoundingClientRect().left]"
    assert browser.execute_script(shift + stays) == [100, 0]
    browser.set_window_size(1280, 1000)


def test_tables_filter(browser):
    box = browser.find_element("xpath", "//table[@id='results']/ancestor::div[@class='grid']/input")
    everything = column(browser, "#results", 1)
    box.send_keys("BC xor")
    assert sorted(column(browser, "#results", 1)) == ["xor-ab", "xor-all"]
    box.clear()
    box.send_keys("x", "\b")
    assert column(browser, "#results", 1) == everything


def test_a_line_opens_to_curves_and_settings(browser):
    button = browser.find_element("css selector", "#results .open")
    browser.execute_script("arguments[0].click()", button)
    detail = browser.find_element("css selector", "#results .detail")
    charts = detail.find_elements("css selector", ".chart")
    assert [chart.find_element("tag name", "p").text for chart in charts] == ["length", "loss_policy", "return", "return_sampled"]
    lines = charts[2].find_elements("tag name", "polyline")
    assert len(lines) in (3, 5)
    assert all(len(line.get_attribute("points").split()) == 5 for line in lines)
    assert '"final_episodes": 320' in detail.text
    browser.execute_script("arguments[0].click()", button)
    assert browser.find_elements("css selector", "#results .detail") == []


def test_failures_and_missing_runs_are_listed(page):
    text = page.read_text()
    assert "bc on mne-balanced, seeds 0-1: step 3: not a number" in text
    assert "the last line &lt;script&gt;" in text
    assert text.count("many lines") < 500
    assert "xor-ab-1: unreadable record" in text
    assert "<td>inspo on xor-all</td><td>0, 1, 2, 3, 4</td>" in text
    assert "git revision" in text


def test_nothing_is_loaded_and_no_tag_comes_from_a_file(page):
    text = page.read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert text.count("<script") == 2
    assert "default-src 'none'" in text
    assert "<img src=x" not in text


def test_the_same_rows_give_the_same_page(page):
    before = page.read_bytes()
    assert report.main(["--out", str(page.parent)]) == 0
    assert page.read_bytes() == before


def test_a_record_that_a_finished_experiment_left_behind_is_not_listed(tmp_path):
    write(tmp_path, "bc", seeds=[0, 1], group="a")
    folder = tmp_path / "unfinished" / "bc"
    folder.mkdir(parents=True)
    (folder / ".running.0123.part.json").write_text("{")  # of a writer that was killed
    for name, group, seeds in (("left", "a", [0, 1]), ("running", "a", [1, 2]), ("other", "b", [0])):
        text = json.dumps({"algo": "bc", "task": "xor-ab", "seeds": seeds, "group": group, "reason": ""})
        (folder / f"{name}.json").write_text(text)
    listed = report._unfinished(tmp_path, load.result_files(tmp_path))
    assert [x["name"] for x in listed] == ["bc on xor-ab, seeds 0", "bc on xor-ab, seeds 1-2"]
    assert {x["reason"] for x in listed} == {"started, not finished"}


def test_a_loss_of_nan_is_null(tmp_path):
    path = write(tmp_path, "bc", "xor-ab")
    path.write_text(path.read_text().replace("loss_policy,", "loss_policy,nan\nbc,xor-ab,0,0,loss_x,", 1))
    assert report.main(["--out", str(tmp_path)]) == 0
    data = re.search(r'id="data">(.*?)</script>', (tmp_path / "report.html").read_text(), re.S)[1]
    assert json.loads(data)["results"][0]["metrics"]["loss_policy"]["seeds"]["0"][0] is None


def test_no_runs_and_a_folder_in_the_way(tmp_path, capsys):
    assert report.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no runs in ")
    write(tmp_path / "all" / "games", "bc")
    for out in (tmp_path / "all", tmp_path / "all" / "games" / "tables"):
        assert report.main(["--out", str(out)]) == 2
        assert f"did you mean --out {tmp_path / 'all' / 'games'}?" in capsys.readouterr().err
    write(tmp_path, "bc")
    Path(tmp_path, "report.html").mkdir()
    assert report.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
