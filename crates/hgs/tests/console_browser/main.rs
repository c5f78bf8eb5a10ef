//! The console in a real browser: every screen and every act of its table, for people who look, who have a keyboard only, and
//! who have no script; and what pages of others can't do with it. Pictures of all pages are left in the folder of the build.

mod acts;
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod keyboard;
mod pages;
mod site;
mod stranger;

use std::fs;
use std::path::Path;

use acts::{ACTS, Doer};
use browser::{Browser, ENTER, ESCAPE, SPACE, Script};
use hgs_console::routes::Route;
use keyboard::{perform, skip, tab_to};
use pages::{
    Axe, Pictures, Visits, all, assert_all_visited, assert_quiet, assert_sound, faults, walk,
};
use serde_json::json;
use site::Site;
use stranger::Stranger;

/// Widths in pixels, and how large one is: the fourth is 1280 at a zoom of 200 %. Tables are tables still at the second.
const SIZES: [(u32, u32); 5] = [(1280, 1), (1000, 1), (768, 1), (640, 2), (320, 1)];

/// Pictures of the README: name, path, scheme.
const IMAGES: [(&str, &str, &str); 2] = [
    ("console-overview.png", "/", "light"),
    ("console-hosts.png", "/hosts", "dark"),
];

/// That a page is right at every size, and in light and dark.
#[track_caller]
fn look_at(browser: &Browser, axe: &Axe<'_>, place: &str, pictures: &Pictures, name: &str) {
    browser.resize(1280, 1);
    axe.assert_kept(place);
    look_at_act(browser, axe, place, pictures, name);
}

/// The same for the page of an act, which is judged as a dialog where the act is done.
#[track_caller]
fn look_at_act(browser: &Browser, axe: &Axe<'_>, place: &str, pictures: &Pictures, name: &str) {
    for (width, density) in SIZES {
        assert_sound(browser, place, width, density);
        if width == 1280 {
            pictures.take(browser, &format!("{name}-1280-light"));
        }
    }
    // The last size is the narrowest. Colours don't depend on it, and all other rules may.
    browser.prefer("dark");
    axe.assert_kept(&format!("{place}, narrow and dark"));
    pictures.take(browser, &format!("{name}-320-dark"));
    browser.prefer("light");
    assert_quiet(browser, place);
}

/// The same in short, for one more page of a kind.
#[track_caller]
fn look_again(browser: &Browser, axe: &Axe<'_>, place: &str) {
    assert_sound(browser, place, 320, 1);
    assert_sound(browser, place, 1280, 1);
    axe.assert_kept(place);
    assert_quiet(browser, place);
}

/// That a page is right where no script runs. The rules of axe need one.
#[track_caller]
fn look_without_script(browser: &Browser, place: &str) {
    for width in [320, 1280] {
        assert_sound(browser, place, width, 1);
    }
    assert_quiet(browser, place);
}

/// A page with every fault that is looked for: what finds nothing on the console's pages finds them.
#[test]
fn a_page_with_faults_is_found_out() {
    let site = Site::empty();
    let (browser, stranger) = (site.browser(Script::On), Stranger::start());
    let axe = Axe::in_pages_of(&browser);
    let page = stranger.showing(
        "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'; style-src 'unsafe-inline'; img-src data:\">
         <h1 style='width: 1px; overflow-wrap: anywhere'>One</h1><h1>Two</h1><main><p style='width: 700px; color: #ccc; background: #fff'>wide and pale</p>
         <input name=nameless></main><script>document.title = 'run'</script>",
    );
    browser.open(&page);
    let faults = faults(&browser, 320, 1).join("; ");
    for fault in [
        "headings are [\"One\", \"Two\"]",
        "pixels too wide",
        "words are broken: [\"One\"]",
        "wide and pale",
    ] {
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
    let broken = axe.broken().join("; ");
    assert!(
        broken.contains("color-contrast") && broken.contains("label: "),
        "{broken}"
    );
    let complaints = browser.complaints();
    assert!(
        complaints
            .iter()
            .any(|one| one.contains("Content Security Policy")),
        "{complaints:?}"
    );
}

#[test]
fn every_screen_is_for_everybody() {
    let site = Site::in_use();
    let browser = site.browser(Script::On);
    let (axe, pictures) = (Axe::in_pages_of(&browser), Pictures::new("console"));
    // Two sessions, so that one can be ended.
    site.sign_in(&browser);
    site.sign_in(&browser);
    let origin = site.origin();
    let visits = Visits {
        of_screens: 4,
        of_acts: 2,
    };
    let found = walk(&browser, origin, visits, |page| {
        let (path, name) = (&page.path, page.route.name);
        match (page.number, page.route.is_act()) {
            (1, false) => look_at(&browser, &axe, path, &pictures, name),
            (1, true) => look_at_act(&browser, &axe, path, &pictures, name),
            (_, false) => look_again(&browser, &axe, path),
            (_, true) => {
                assert_sound(&browser, path, 320, 1);
                assert_quiet(&browser, path);
            }
        }
    });
    assert_all_visited(&found, all());

    // What is shown in the place of a page.
    for (name, path, status) in [
        ("not-here", "/hosts/nobody", "404"),
        ("nothing", "/nothing", "404"),
    ] {
        browser.open(&format!("{origin}{path}"));
        let complaints = browser.complaints();
        assert!(
            complaints.len() == 1 && complaints[0].contains(status),
            "{path}: {complaints:?}"
        );
        look_at(&browser, &axe, path, &pictures, name);
    }
    let link = site.link();
    browser.forget_cookies();
    for (name, title, url) in [
        ("sign-in", "Sign in", format!("{origin}/hosts")),
        ("link", "Sign in", link),
        (
            "used-link",
            "This link can't be used",
            format!("{origin}/sign-in/used"),
        ),
    ] {
        browser.open(&url);
        assert_eq!(browser.title(), format!("{title} - OpenHGS"));
        look_at(&browser, &axe, name, &pictures, name);
    }
}

#[test]
fn an_empty_guardian_shows_every_screen_too() {
    let site = Site::empty();
    let browser = site.browser(Script::On);
    let axe = Axe::in_pages_of(&browser);
    let pictures = Pictures::new("console-empty");
    site.sign_in(&browser);
    let visits = Visits {
        of_screens: 1,
        of_acts: 1,
    };
    let found = walk(&browser, site.origin(), visits, |page| {
        look_again(&browser, &axe, &page.path);
        pictures.take(&browser, page.route.name);
    });
    let is_in_menu = |route: &&&'static Route| !route.path.contains('{') && !route.is_act();
    assert_all_visited(&found, all().filter(is_in_menu));
}

#[test]
fn every_act_is_done_by_keyboard_alone_and_without_script() {
    let site = Site::in_use();
    let without = site.browser(Script::Off);
    site.sign_in(&without);
    // A session to be ended.
    site.sign_in(&without);
    let visits = Visits {
        of_screens: 4,
        of_acts: 1,
    };
    let found = walk(&without, site.origin(), visits, |page| match page.number {
        1 => look_without_script(&without, &page.path),
        _ => assert_quiet(&without, &page.path),
    });
    assert_all_visited(&found, all());

    let with = site.browser(Script::On);
    let axe = Axe::in_pages_of(&with);
    site.sign_in(&with);
    let doer = |browser, script| Doer {
        site: &site,
        browser,
        script,
    };
    do_acts(&doer(&with, Script::On), Some(&axe));
    with.open(&format!("{}/", site.origin()));
    skip(&with);
    with.open(&format!("{}/hosts", site.origin()));
    tab_to(&with, "a button that copies", |focus| {
        focus.is_button("Copy")
    });
    with.press(SPACE);
    with.until(
        "the commands are copied",
        "return document.activeElement.innerText.startsWith('Copied')",
    );
    sign_out(&site, &with);

    // The act that ends a session has ended one of these, which may be this one.
    site.sign_in(&without);
    site.sign_in(&without);
    do_acts(&doer(&without, Script::Off), None);
    sign_out(&site, &without);
}

/// Does every act of the console, each where the acts before have made it possible.
#[track_caller]
fn do_acts(doer: &Doer<'_>, axe: Option<&Axe<'_>>) {
    let known: Vec<_> = ACTS.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> = all()
        .filter(|route| route.is_act() && !known.contains(&route.name))
        .map(|route| route.name)
        .collect();
    assert!(
        unknown.is_empty(),
        "ACTS in acts.rs does not say how these acts are done: {unknown:?}"
    );
    for (name, deed) in ACTS {
        let deed = deed(doer);
        let said = perform(doer.browser, doer.site.origin(), &deed, (doer.script, axe));
        assert_eq!(said, deed.says.done(), "{name} at {}", deed.path);
        assert!(
            (deed.is_done)(doer.site),
            "{name} at {} was said to be done, and was not",
            deed.path
        );
    }
}

#[track_caller]
fn sign_out(site: &Site, browser: &Browser) {
    browser.open(&format!("{}/hosts", site.origin()));
    tab_to(browser, "the end of the session", |focus| {
        focus.is_button("Sign out")
    });
    browser.press(ENTER);
    browser.until(
        "the session ends",
        "return location.pathname === '/sign-in'",
    );
    assert_no_way_back(browser);
}

/// After the end of a session the browser shows nothing of it again.
#[track_caller]
fn assert_no_way_back(browser: &Browser) {
    browser.until_shown("Sign in");
    browser.back();
    browser.until(
        "the sign-in page is there",
        "return location.pathname === '/sign-in'",
    );
    let text = browser.text();
    assert!(
        !text.contains("host-1") && text.contains("You are not signed in"),
        "{text}"
    );
}

#[test]
fn pages_follow_what_happens_while_somebody_looks() {
    let site = Site::empty();
    let browser = site.browser_that_logs_its_network();
    site.sign_in(&browser);
    browser.open(&format!("{}/hosts", site.origin()));
    browser.until_streams(1);
    browser.run("window.isHere = true");
    let add = |host: &str| {
        site.make_host_key(host);
        site.ask(&format!("host add {host} --host-key {host}.pem"));
    };
    add("host-1");
    let shows = |host: &str| {
        format!("return document.querySelector('tbody')?.innerText.includes('{host}') ?? false")
    };
    browser.until("the new host appears", &shows("host-1"));
    assert_eq!(
        browser.run("return window.isHere"),
        json!(true),
        "the page was left"
    );

    // Nobody looks: no stream, and what was missed is there when somebody does.
    let page = browser.new_tab();
    browser.until_streams(0);
    add("host-2");
    browser.close_tab(&page);
    browser.until_streams(1);
    browser.until("what was missed appears", &shows("host-2"));
    assert_quiet(&browser, "/hosts");

    // What somebody enters is not taken away.
    tab_to(&browser, "the link to add a host", |focus| {
        focus.is_link_to("/add-host")
    });
    browser.press(ENTER);
    browser.until(
        "a dialog opens",
        "return document.querySelector('dialog[open] form') !== null",
    );
    tab_to(&browser, "the name", |focus| focus.is_field_of("name"));
    browser.type_in("host-3");
    add("host-4");
    browser.until(
        "a moment has passed",
        "return new Promise(done => setTimeout(done, 1500, true))",
    );
    let entered = browser.run("return document.querySelector('dialog input[name=name]').value");
    assert_eq!(entered, "host-3");
    browser.press(ESCAPE);
    browser.until("the host that came meanwhile appears", &shows("host-4"));
}

#[test]
fn pages_of_others_can_do_nothing_here() {
    let site = Site::empty();
    site.make_host_key("host-1");
    site.ask("host add host-1 --host-key host-1.pem");
    let (browser, stranger, origin) = (site.browser(Script::On), Stranger::start(), site.origin());
    site.sign_in(&browser);

    // Who follows a link from elsewhere is signed in still.
    let link = format!("<a href='{origin}/hosts'>see</a>");
    browser.open(&stranger.showing(&link));
    browser.click("a");
    browser.until_shown("Hosts");
    assert_quiet(&browser, "/hosts");

    let form = format!(
        "<form method=post action='{origin}/hosts/host-1/revoke'><input name=reason value=won><button>Win</button></form>"
    );
    browser.open(&stranger.showing(&form));
    browser.click("button");
    browser.until_shown("You may not do this");
    assert_eq!(site.json("host list")[0]["revoked"], json!(null));

    browser.open(&stranger.showing(&format!("<iframe src='{origin}/hosts'></iframe>")));
    browser.enter_frame(Some(0));
    let text = browser.text();
    assert!(
        !text.contains("host-1") && !text.contains("Signed in"),
        "{text}"
    );
    browser.enter_frame(None);

    let reads = format!(
        "<script>
        const of = (element, source) => new Promise(done => {{
            element.onload = () => done('there');
            element.onerror = () => done('nothing');
            element.src = source;
            if (element.localName === 'script') document.body.append(element);
        }});
        const fetched = mode => fetch('{origin}/hosts', {{mode, credentials: 'include'}}).then(() => 'there', () => 'nothing');
        const streamed = new Promise(done => {{
            const stream = new EventSource('{origin}/events', {{withCredentials: true}});
            stream.onopen = () => done('there');
            stream.onerror = () => done('nothing');
        }});
        window.read = () => Promise.all([
            of(new Image(), '{origin}/hosts'), of(document.createElement('script'), '{origin}/hosts'), fetched('cors'),
            fetched('no-cors'), streamed,
        ]);
        </script><body>"
    );
    browser.open(&stranger.showing(&reads));
    assert_eq!(
        browser.run("return read()"),
        json!(["nothing", "nothing", "nothing", "nothing", "nothing"])
    );

    // A page that opens the console has no hold on its window.
    browser.open(&stranger.showing(&format!(
        "<button onclick=\"opened = window.open('{origin}/')\">open</button>"
    )));
    browser.click("button");
    browser.until("the console is out of reach", "return opened.closed");
    browser.complaints();

    // A link that was used is none.
    let link = site.link();
    browser.open(&link);
    browser.click("main form button");
    browser.until_shown("Overview");
    browser.open(&link);
    assert_eq!(browser.title(), "This link can't be used - OpenHGS");

    browser.open(&format!("{origin}/hosts"));
    assert!(browser.text().contains("host-1"));
    browser.click(".user button");
    assert_no_way_back(&browser);
}

/// The pictures of the README, which `docs/images/make` writes and which stay small.
#[test]
fn pictures_of_the_readme() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    if std::env::var_os("OPENHGS_WRITE_IMAGES").is_some() {
        let site = Site::in_use();
        let browser = site.browser(Script::On);
        site.sign_in(&browser);
        let origin = site.origin();
        browser.resize(1280, 1);
        let hidden = json!({"hidden": true});
        browser.of_developers("Emulation.setScrollbarsHidden", &hidden);
        for (name, path, scheme) in IMAGES {
            browser.prefer(scheme);
            browser.open(&format!("{origin}{path}"));
            fs::write(folder.join(name), browser.picture_of_window()).unwrap();
        }
    }
    let readme = fs::read_to_string(folder.join("../../README.md")).unwrap();
    for (name, ..) in IMAGES {
        assert!(readme.contains(&format!("docs/images/{name}")), "{name}");
        let picture = fs::read(folder.join(name)).unwrap();
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() < 150_000,
            "{name}"
        );
    }
}

/// As somebody with a certificate in the browser comes in, and is put out: by what `docs/console.md` says, and by keyboard.
#[test]
fn a_certificate_in_the_browser_signs_in() {
    let site = Site::with_client();
    let (browser, origin) = site.browser_with_certificate();
    let axe = Axe::in_pages_of(&browser);
    let pictures = Pictures::new("console-certificate");
    browser.open(&format!("{}/hosts", site.origin()));
    look_at(&browser, &axe, "/sign-in", &pictures, "sign-in");
    tab_to(&browser, "the way to the other port", |focus| {
        focus.text == "Sign in with a certificate"
    });
    browser.press(ENTER);
    browser.until_shown("Sign in by a certificate");
    look_at(
        &browser,
        &axe,
        "/sign-in/certificate",
        &pictures,
        "certificate",
    );
    browser.click("main form button");
    browser.until_shown("Overview");
    assert!(browser.text().contains("(ann)"), "{}", browser.text());
    let sessions = site.json("console sessions");
    assert_eq!(sessions[0]["way"], "certificate");
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    browser.open(&format!("{origin}/console/sessions"));
    assert_quiet(&browser, "/console/sessions");
    // The other port has the same name, and not this session.
    browser.open(&format!("{}/hosts", site.origin()));
    assert_eq!(browser.title(), "Sign in - OpenHGS");
}
