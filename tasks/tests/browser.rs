//! The report in a real browser: headless Chromium, driven over its DevTools protocol, opens the page narrow and wide, light and dark, and on
//! paper, and measures what people would see.
//!
//! It needs Chromium (`chromium`, `chromium-browser` or `google-chrome` in the path, or the one that `BROWSER_UNDER_TEST` names), and where there
//! is none it says so and passes, unless `BROWSER_UNDER_TEST` is set, as it is in CI.

#[path = "../examples/report.rs"]
#[allow(dead_code)] // its `main`
mod example;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// The browser to test with; `None` where there is none and none is asked for.
fn program() -> Option<OsString> {
    if let Some(named) = std::env::var_os("BROWSER_UNDER_TEST") {
        return Some(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut all = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    all.find(|file| file.is_file()).map(PathBuf::into_os_string)
}

/// A browser that has not done its work by then is ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page, and the pipes to it: JSON messages, each ended by a zero byte.
struct Browser {
    process: Arc<Mutex<Child>>,
    /// While it lives, the browser may work.
    _at_work: Sender<()>,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// What the page did of itself.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start(program: OsString) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut options: Vec<OsString> = [
            "--headless",
            "--no-sandbox", // its own page alone is opened, and CI runs as root
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-pipe",
        ]
        .map(OsString::from)
        .to_vec();
        options.push(format!("--user-data-dir={}", profile.path().display()).into());
        // Chromium reads commands from descriptor 3 and answers on 4.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 1>&2 0</dev/null"#]).arg(program).args(options).arg("about:blank");
        let mut process = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh starts");
        let (commands, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let process = Arc::new(Mutex::new(process));
        let (at_work, watched) = channel();
        let late = process.clone();
        std::thread::spawn(move || {
            if watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = late.lock().unwrap().kill();
            }
        });
        let (session, number, events) = (None, 0, Vec::new());
        let mut browser = Self { process, _at_work: at_work, commands, answers, session, number, events, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        let count = self.answers.read_until(0, &mut bytes).unwrap();
        assert!(count > 0, "the browser ended: is it Chromium, and can it start here?");
        serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap()).unwrap()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.message();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn open(&mut self, page: &Path) {
        self.events.clear();
        self.call("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.message();
            self.events.push(event);
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let answer =
            self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }));
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    fn window(&mut self, width: u32, scheme: &str, media: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "media": media, "features": features }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3), with that contrast.
const FAINT: &str = r"(() => {
  const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const light = ([r, g, b]) => { const f = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
  const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length) continue;
    seen += 1;
    const style = getComputedStyle(e), inside = e.ownerSVGElement !== undefined && e.ownerSVGElement !== null;
    const [a, b] = [light(parse(inside ? style.fill : style.color)), light(behind(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push(walker.currentNode.data.trim().slice(0, 40) + ': ' + contrast.toFixed(2));
  }
  return { seen, faint };
})()";

/// Lines and markers of charts that cannot be seen: without extent, outside of their chart, or too like the ground (3, WCAG 2.2, 1.4.11).
const UNSEEN: &str = r"(() => {
  const unseen = [];
  let seen = 0;
  for (const shape of document.querySelectorAll('.panels .line, .panels .marker')) {
    const box = shape.getBoundingClientRect(), chart = shape.ownerSVGElement.getBoundingClientRect();
    seen += 1;
    const inside = box.left >= chart.left - 1 && box.right <= chart.right + 1 && box.top >= chart.top - 1 && box.bottom <= chart.bottom + 1;
    const least = shape.matches('.marker') ? Math.min(box.width, box.height) : box.width;
    if (!inside || least < 3) unseen.push(shape.outerHTML.slice(0, 90) + ' ' + JSON.stringify(box));
  }
  return { seen, unseen };
})()";

#[test]
fn the_report_is_readable_in_a_browser() {
    let Some(program) = program() else {
        eprintln!("no Chromium here: the report was not opened (BROWSER_UNDER_TEST names one)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let report = example::report(include_bytes!("../examples/report.png")).unwrap();
    std::fs::write(&page, report.render()).unwrap();
    let mut browser = Browser::start(program);
    for (width, scheme) in [(400, "light"), (400, "dark"), (1200, "light"), (1200, "dark")] {
        let place = format!("{width} px, {scheme}");
        browser.window(width, scheme, "screen");
        browser.open(&page);
        assert_eq!(browser.value("document.title"), report.title.as_str(), "{place}");
        let count =
            |browser: &mut Browser, what: &str| browser.value(&format!("document.querySelectorAll('{what}').length")).as_u64();
        assert_eq!((count(&mut browser, "section"), count(&mut browser, ".panels svg")), (Some(4), Some(5)), "{place}");
        assert_eq!(
            browser.value("[...document.images].filter(image => !image.naturalWidth).length"),
            0,
            "{place}: images that do not load"
        );
        assert!(browser.value("document.images.length").as_u64() > Some(10), "{place}");
        let (whole, shown) = ("document.documentElement.scrollWidth", "document.documentElement.clientWidth");
        assert_eq!(browser.value(&format!("Math.max(0, {whole} - {shown})")), 0, "{place}: wider than the window");
        let texts = browser.value(FAINT);
        assert!(texts["seen"].as_u64() > Some(100) && texts["faint"] == json!([]), "{place}: {texts}");
        let shapes = browser.value(UNSEEN);
        assert!(shapes["seen"].as_u64() > Some(50) && shapes["unseen"] == json!([]), "{place}: {shapes}");
        let dark = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(value => value < 60)");
        assert_eq!(dark, scheme == "dark", "{place}");
        quiet(&browser, &place);
    }
    // A link of the table of sections leads to its section, and a details element opens.
    browser.value("document.querySelector('nav a:last-of-type').click()");
    assert_eq!(browser.value("location.hash"), "#section-1");
    assert!(
        browser
            .value("(() => { const d = document.querySelector('details'); d.open = true; return d.scrollHeight; })()")
            .as_f64()
            > Some(100.0)
    );
    // On paper everything is dark on white, whatever the window's colors.
    browser.window(1200, "dark", "print");
    let texts = browser.value(FAINT);
    assert_eq!(texts["faint"], json!([]));
    assert_eq!(browser.value("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)");
    let paper = browser.call("Page.printToPDF", json!({ "printBackground": true }));
    assert!(paper["data"].as_str().is_some_and(|data| data.len() > 10_000));
}

/// The page has loaded nothing but itself, and nothing in it was refused or failed.
#[track_caller]
fn quiet(browser: &Browser, place: &str) {
    let of = |method: &str| browser.events.iter().filter(|event| event["method"] == method).collect::<Vec<_>>();
    let requests = of("Network.requestWillBeSent");
    let urls = requests.iter().filter_map(|event| event["params"]["request"]["url"].as_str());
    let others: Vec<&str> = urls.filter(|url| !url.starts_with("data:image/png;")).collect();
    assert!(others.iter().all(|url| url.starts_with("file://") && url.ends_with("report.html")), "{place}: {others:?}");
    for method in ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"] {
        assert!(of(method).is_empty(), "{place}: {:?}", of(method));
    }
}
