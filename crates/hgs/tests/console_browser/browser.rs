//! A browser that a test drives by the standard WebDriver: Debian's Chromium and its driver.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// How long a page may take to become what it should, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys, as WebDriver names them.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const SPACE: &str = " ";
const CONTROL: &str = "\u{e009}";

/// Whether pages may run their script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    On,
    Off,
}

/// A certificate of a browser's user.
pub(crate) struct ClientCertificate<'c> {
    /// The PFX file with it and its key.
    pub(crate) file: &'c Path,
    pub(crate) password: &'c str,
    /// Where the browser shows it without asking.
    pub(crate) origin: &'c str,
}

impl ClientCertificate<'_> {
    /// Puts it into the database of NSS that the browser reads at this home.
    fn import(&self, home: &Path) {
        let output = Command::new(hgs_testkit::tool("pk12util", "libnss3-tools"))
            .arg("-d")
            .arg(format!("sql:{}", home.join(".pki/nssdb").display()))
            .arg("-i")
            .arg(self.file)
            .args(["-W", self.password, "-K", ""])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// What a company would set by a policy: nobody is there to be asked.
    fn settings(&self) -> Value {
        let chosen = json!({"pattern": self.origin, "filter": {}}).to_string();
        json!({"profile.managed_auto_select_certificate_for_urls": [chosen]})
    }
}

/// A browser with one session; it ends, with all its processes, when dropped.
pub(crate) struct Browser {
    driver: Child,
    runtime: Runtime,
    sender: RefCell<SendRequest<Full<Bytes>>>,
    session: String,
    /// Streams of events that pages hold open, as far as it was asked.
    streams: RefCell<BTreeSet<String>>,
    /// Where it keeps its profile and which certificates it trusts.
    _home: TempDir,
}

impl Browser {
    /// Starts one that trusts the certificate in the file `trusted`, beside the authorities that everybody does, and keeps
    /// these logs.
    pub(crate) fn start(trusted: &Path, script: Script, logs: &[&str]) -> Self {
        Self::start_with(trusted, script, logs, None)
    }

    /// The same with a certificate of its user.
    pub(crate) fn start_with(
        trusted: &Path,
        script: Script,
        logs: &[&str],
        certificate: Option<&ClientCertificate<'_>>,
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        trust(home.path(), trusted);
        if let Some(certificate) = certificate {
            certificate.import(home.path());
        }
        let chromium = hgs_testkit::tool("chromium", "chromium");
        let (driver, port) = (0..10)
            .find_map(|_| start_driver(home.path()))
            .expect("the driver starts");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let sender = runtime.block_on(connect(([127, 0, 0, 1], port).into()));
        let mut browser = Self {
            driver,
            runtime,
            sender: RefCell::new(sender),
            session: String::new(),
            streams: RefCell::default(),
            _home: home,
        };
        let begun = browser.send(
            Method::POST,
            "/session",
            &capabilities(&chromium, script, logs, certificate),
        );
        let begun = begun.unwrap_or_else(|error| panic!("no browser: {error}"));
        browser.session = format!("/session/{}", begun["sessionId"].as_str().unwrap());
        browser.prefer("light");
        browser
    }

    /// One command to the driver: its value, or its error.
    fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Value> {
        let octets = match method {
            Method::POST => Bytes::from(body.to_string()),
            _ => Bytes::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(octets))
            .unwrap();
        let mut sender = self.sender.borrow_mut();
        let (status, answer) = self.runtime.block_on(async {
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status();
            let octets = answer.into_body().collect().await.unwrap().to_bytes();
            (status, octets)
        });
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let value = answer["value"].take();
        match status.is_success() {
            true => Ok(value),
            false => Err(value),
        }
    }

    fn try_command(&self, path: &str, body: &Value) -> Result<Value, Value> {
        self.send(Method::POST, &format!("{}/{path}", self.session), body)
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_command(path, body);
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    fn asked(&self, path: &str) -> Value {
        let path = format!("{}/{path}", self.session);
        let answer = self.send(Method::GET, &path, &Value::Null);
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Goes to a page, and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    #[track_caller]
    pub(crate) fn back(&self) {
        self.command("back", &json!({}));
    }

    #[track_caller]
    pub(crate) fn title(&self) -> String {
        self.asked("title").as_str().unwrap().to_owned()
    }

    /// The part of the address after the origin.
    #[track_caller]
    pub(crate) fn place(&self) -> String {
        let place = self.run("return location.pathname + location.search");
        place.as_str().unwrap().to_owned()
    }

    /// The text that somebody reads.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let text = self.run("return document.body.innerText");
        text.as_str().unwrap().to_owned()
    }

    /// Runs a function's body in the page. A promise that it returns is waited for where the page may run scripts.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.run_with(script, &json!([]))
    }

    #[track_caller]
    pub(crate) fn run_with(&self, script: &str, arguments: &Value) -> Value {
        let body = json!({"script": script, "args": arguments});
        self.command("execute/sync", &body)
    }

    /// Asks until the function's body returns something that is true, whatever page is there by then.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        let body = json!({"script": script, "args": []});
        loop {
            // While one page takes the place of another there is none to ask.
            let found = self.try_command("execute/sync", &body);
            if found.is_ok_and(|found| found != json!(false) && !found.is_null()) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {} {}",
                self.place(),
                self.text()
            );
            self.breathe();
        }
    }

    /// Leaves the processor to the browser for a moment, before it is asked again.
    fn breathe(&self) {
        self.runtime
            .block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }

    /// Waits for a page of the console with this heading, which a click leads to.
    #[track_caller]
    pub(crate) fn until_shown(&self, heading: &str) {
        let title = json!(format!("{heading} - OpenHGS"));
        let script =
            format!("return document.title === {title} && document.readyState === 'complete'");
        self.until(heading, &script);
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.command(
            "element",
            &json!({"using": "css selector", "value": selector}),
        );
        let (_, id) = found.as_object().unwrap().iter().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// Presses a key.
    #[track_caller]
    pub(crate) fn press(&self, key: &str) {
        self.type_in(key);
    }

    /// Types a text where the focus is, key by key.
    #[track_caller]
    pub(crate) fn type_in(&self, text: &str) {
        let keys = text.chars().map(String::from);
        let strokes = keys.flat_map(|key| ["keyDown", "keyUp"].map(|kind| (kind, key.clone())));
        self.strike(strokes);
    }

    /// Types a text in the place of what is where the focus is.
    #[track_caller]
    pub(crate) fn type_over(&self, text: &str) {
        let all = [
            ("keyDown", CONTROL),
            ("keyDown", "a"),
            ("keyUp", "a"),
            ("keyUp", CONTROL),
        ];
        self.strike(all.map(|(kind, key)| (kind, key.to_owned())));
        self.type_in(text);
    }

    #[track_caller]
    fn strike(&self, strokes: impl IntoIterator<Item = (&'static str, String)>) {
        let strokes = strokes.into_iter();
        let strokes: Vec<_> = strokes
            .map(|(kind, key)| json!({"type": kind, "value": key}))
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.command("actions", &json!({"actions": [keyboard]}));
    }

    /// Puts a text where the focus is, all at once.
    #[track_caller]
    pub(crate) fn paste(&self, text: &str) {
        self.of_developers("Input.insertText", &json!({"text": text}));
    }

    /// Has a width of this many pixels; with a density of 2 they are as large as by a zoom of 200 %.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, density: u32) {
        let screen =
            json!({"width": width, "height": 800, "deviceScaleFactor": density, "mobile": false});
        self.of_developers("Emulation.setDeviceMetricsOverride", &screen);
    }

    #[track_caller]
    pub(crate) fn prefer(&self, scheme: &str) {
        // Colours that change slowly would be judged on their way.
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.of_developers("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// A command of the browser's own protocol.
    #[track_caller]
    pub(crate) fn of_developers(&self, command: &str, arguments: &Value) -> Value {
        self.command(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": arguments}),
        )
    }

    /// A picture of the whole page, as PNG.
    #[track_caller]
    pub(crate) fn picture(&self) -> Vec<u8> {
        let sizes = self.of_developers("Page.getLayoutMetrics", &json!({}));
        let mut all = sizes["cssContentSize"].clone();
        all["scale"] = json!(1);
        // While it is taken, no scroll bar takes of the width.
        all["width"] = self.run("return innerWidth");
        self.captured(&json!({"format": "png", "captureBeyondViewport": true, "clip": all}))
    }

    /// A picture of what is in the window, as PNG.
    #[track_caller]
    pub(crate) fn picture_of_window(&self) -> Vec<u8> {
        self.captured(&json!({"format": "png"}))
    }

    #[track_caller]
    fn captured(&self, what: &Value) -> Vec<u8> {
        let picture = self.of_developers("Page.captureScreenshot", what);
        hgs_crypto::base64::decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// What the browser complained of since it was asked last: violations of the policy, errors of scripts, refused requests.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        let grave = entries.filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        grave
            .map(|entry| format!("{}: {}", entry["source"], entry["message"]))
            .collect()
    }

    pub(crate) fn forget_cookies(&self) {
        let path = format!("{}/cookie", self.session);
        self.send(Method::DELETE, &path, &Value::Null).unwrap();
    }

    /// Waits until the pages hold this many streams of events open.
    #[track_caller]
    pub(crate) fn until_streams(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.note_streams();
            let open = self.streams.borrow().len();
            if open == count {
                return;
            }
            assert!(Instant::now() < deadline, "{open} streams, not {count}");
            self.breathe();
        }
    }

    /// What the network has done since it was asked last, as far as it is about streams.
    fn note_streams(&self) {
        let log = self.command("se/log", &json!({"type": "performance"}));
        let mut streams = self.streams.borrow_mut();
        for entry in log.as_array().unwrap() {
            let entry: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let event = &entry["message"]["params"];
            let request = event["requestId"].to_string();
            match entry["message"]["method"].as_str() {
                Some("Network.responseReceived") if event["type"] == "EventSource" => {
                    streams.insert(request);
                }
                // The streams of a page that was left are gone, and nothing is said of them.
                Some("Network.requestWillBeSent") if event["type"] == "Document" => streams.clear(),
                Some("Network.loadingFinished" | "Network.loadingFailed") => {
                    streams.remove(&request);
                }
                _ => {}
            }
        }
    }

    /// Opens another tab, which hides the page, and says how to get back.
    #[track_caller]
    pub(crate) fn new_tab(&self) -> String {
        let here = self.asked("window").as_str().unwrap().to_owned();
        let made = self.command("window/new", &json!({"type": "tab"}));
        self.enter_tab(made["handle"].as_str().unwrap());
        here
    }

    /// Closes this tab, and goes back to another.
    #[track_caller]
    pub(crate) fn close_tab(&self, other: &str) {
        let path = format!("{}/window", self.session);
        self.send(Method::DELETE, &path, &Value::Null).unwrap();
        self.enter_tab(other);
    }

    #[track_caller]
    fn enter_tab(&self, tab: &str) {
        self.command("window", &json!({"handle": tab}));
    }

    /// Goes into the first frame of the page, or back to the page.
    #[track_caller]
    pub(crate) fn enter_frame(&self, frame: Option<u32>) {
        self.command("frame", &json!({"id": frame}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}

/// Puts a certificate into the database of NSS that the browser reads at this home.
fn trust(home: &Path, certificate: &Path) {
    let database = home.join(".pki/nssdb");
    fs::create_dir_all(&database).unwrap();
    let certutil = hgs_testkit::tool("certutil", "libnss3-tools");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&certutil);
        let database = format!("sql:{}", database.display());
        let output = command.args(["-d", &database]).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    run(&["-N", "--empty-password"]);
    let file = certificate.to_str().unwrap();
    run(&["-A", "-t", "P,,", "-n", "console", "-i", file]);
}

/// Starts the driver, at a port that it chooses. It ends at once if somebody else has the same one by the other version of
/// the internet protocol.
fn start_driver(home: &Path) -> Option<(Child, u16)> {
    let mut driver = Command::new(hgs_testkit::tool("chromedriver", "chromium-driver"))
        .arg("--port=0")
        .env("HOME", home)
        // The browser is killed, and leaves its profile behind.
        .env("TMPDIR", home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        // Its processes are ended as a group: the driver leaves the browser behind.
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = loop {
        let Some(Ok(line)) = lines.next() else {
            driver.wait().unwrap();
            return None;
        };
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            break port.trim_end_matches('.').parse().unwrap();
        }
    };
    // What it says later is read as well, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port))
}

async fn connect(driver: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(driver).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn capabilities(
    chromium: &Path,
    script: Script,
    logs: &[&str],
    certificate: Option<&ClientCertificate<'_>>,
) -> Value {
    let mut options = json!({
        "binary": chromium,
        "args": [
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-gpu",
            "--disable-background-networking", "--disable-component-update", "--window-size=1280,800",
        ],
    });
    if script == Script::Off {
        // The setting of people who switch scripts off.
        let setting = "profile.managed_default_content_settings.javascript";
        options["prefs"] = json!({setting: 2});
    }
    if let Some(certificate) = certificate {
        options["prefs"] = certificate.settings();
    }
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome",
        "acceptInsecureCerts": false,
        "timeouts": {"script": PATIENCE.as_millis() as u64, "pageLoad": PATIENCE.as_millis() as u64, "implicit": 0},
        "goog:chromeOptions": options,
        "goog:loggingPrefs": logs.iter().map(|log| (*log, "ALL")).collect::<BTreeMap<_, _>>(),
    }}})
}
