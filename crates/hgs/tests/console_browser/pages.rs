//! The way through all pages, and what is asked of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use hgs_console::routes::{self, ROUTES, Route, Serves, Target};
use serde_json::json;

use super::browser::Browser;

/// How many pages of one route are visited: those of different hosts, for example, show different things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visits {
    pub(crate) of_screens: usize,
    pub(crate) of_acts: usize,
}

/// The links of a page to other pages. An end of the own session would be the end of the visit.
const LINKS: &str = "
    const links = [...document.querySelectorAll('a[href^=\"/\"]')];
    const others = links.filter(link => !link.closest('tr')?.innerText.includes('(this one)'));
    return others.map(link => link.getAttribute('href').split('#')[0]);";

/// Whether a path gives a file to keep.
const IS_FILE: &str = "
    const request = new XMLHttpRequest();
    request.open('GET', arguments[0], false);
    request.send();
    return request.status === 200 && (request.getResponseHeader('content-disposition') ?? '').startsWith('attachment');";

/// What a page says it is, what stands out on the right of it, and which short words had to be broken for want of room.
const FACTS: &str = "
    const words = [];
    for (const element of document.querySelectorAll(
        'h1, h2, th, td, td *:not(code), nav a, button, .button, .condition')) {
        // Narrow pages show the headings of tables in the cells, and keep these for who hears the page.
        if (element.closest('thead')?.getBoundingClientRect().width <= 1) continue;
        for (const node of element.childNodes) {
            for (const found of node.nodeType === Node.TEXT_NODE ? node.data.matchAll(/\\w+/g) : []) {
                if (found[0].length > 16) continue;
                const range = document.createRange();
                range.setStart(node, found.index);
                range.setEnd(node, found.index + found[0].length);
                if (range.getClientRects().length > 1) words.push(found[0]);
            }
        }
    }
    const beyond = [...document.querySelectorAll('main *, header *')].filter(element => {
        const box = element.getBoundingClientRect();
        return box.width > 1 && box.right > document.documentElement.clientWidth + 1;
    });
    return {
        title: document.title,
        headings: [...document.querySelectorAll('h1')].map(heading => heading.textContent),
        language: document.documentElement.lang,
        scrolls: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        broken: words,
        beyond: beyond.slice(0, 3).map(element => element.outerHTML.slice(0, 200)),
    };";

#[derive(Debug, serde::Deserialize)]
struct Facts {
    title: String,
    headings: Vec<String>,
    language: String,
    scrolls: i64,
    broken: Vec<String>,
    beyond: Vec<String>,
}

/// Whether a page says that something can't be done, and has no form.
const REFUSED: &str = "
    return document.querySelector('main > .error') !== null && document.querySelector('main form') === null;";

/// A page that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) route: &'static Route,
    pub(crate) path: String,
    /// Which of its route it is.
    pub(crate) number: usize,
    /// Whether it says that the act can't be done as things are.
    pub(crate) is_refused: bool,
}

/// Follows links from the first page on, and has `look` look at what they lead to.
#[track_caller]
pub(crate) fn walk(
    browser: &Browser,
    origin: &str,
    visits: Visits,
    mut look: impl FnMut(&Found),
) -> Vec<Found> {
    let mut known = BTreeSet::from(["/".to_owned()]);
    let mut visited: BTreeMap<&str, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([("/".to_owned(), "/".to_owned())]);
    let mut found = Vec::new();
    while let Some((path, from)) = queue.pop_front() {
        let plain = path.split('?').next().unwrap();
        let Target::Route(route, _) = routes::find(plain) else {
            panic!("{from} has a link to {path}, where nothing is");
        };
        let number = visited.entry(route.name).or_default();
        let most = match route.is_act() {
            true => visits.of_acts,
            false => visits.of_screens,
        };
        if *number == most {
            continue;
        }
        let mut page = Found {
            route,
            path,
            number: *number + 1,
            is_refused: false,
        };
        if let Serves::Download(_) = route.serves {
            let is_file = browser.run_with(IS_FILE, &json!([page.path]));
            assert!(is_file == true, "{} gives no file", page.path);
            *number += 1;
            found.push(page);
            continue;
        }
        browser.open(&format!("{origin}{}", page.path));
        assert_eq!(browser.place(), page.path, "{} leads elsewhere", page.path);
        let links = browser.run(LINKS);
        for link in links.as_array().unwrap() {
            let link = link.as_str().unwrap().to_owned();
            if known.insert(link.clone()) {
                queue.push_back((link, page.path.clone()));
            }
        }
        page.is_refused = route.is_act() && browser.run(REFUSED) == true;
        if page.is_refused {
            // The answer has the status of a conflict.
            let complaints = browser.complaints();
            assert!(
                complaints.iter().all(|one| one.contains("409")),
                "{}: {complaints:?}",
                page.path
            );
        } else {
            *number += 1;
        }
        if !page.is_refused || page.number == 1 {
            look(&page);
        }
        found.push(page);
    }
    found
}

/// That each of `routes` was visited.
#[track_caller]
pub(crate) fn assert_all_visited<'r>(
    found: &[Found],
    routes: impl Iterator<Item = &'r &'static Route>,
) {
    let missing: Vec<_> = routes
        .filter(|route| !found.iter().any(|page| page.route.name == route.name))
        .map(|route| format!("{} ({})", route.name, route.path))
        .collect();
    assert!(
        missing.is_empty(),
        "no page of this guardian has a link to these screens and acts: {}; the links are there for whoever may follow \
         them, and `Site::in_use` makes what they are about",
        missing.join(", ")
    );
}

/// Every screen and act.
pub(crate) fn all() -> impl Iterator<Item = &'static &'static Route> {
    ROUTES.iter()
}

/// That a page has one heading, which is its title too, and fits into a window of this width.
#[track_caller]
pub(crate) fn assert_sound(browser: &Browser, place: &str, width: u32, density: u32) {
    let faults = faults(browser, width, density);
    assert!(
        faults.is_empty(),
        "{place} at {width} pixels and a density of {density}: {faults:#?}"
    );
}

/// What is wrong with a page in a window of this width.
pub(crate) fn faults(browser: &Browser, width: u32, density: u32) -> Vec<String> {
    browser.resize(width, density);
    let facts: Facts = serde_json::from_value(browser.run(FACTS)).unwrap();
    let title = match &facts.headings[..] {
        [heading] => format!("{heading} - OpenHGS"),
        _ => String::new(),
    };
    let mut faults = Vec::new();
    if facts.title != title {
        faults.push(format!(
            "the title is {:?}, and headings are {:?}",
            facts.title, facts.headings
        ));
    }
    if facts.language != "en" {
        faults.push(format!("the language is {:?}", facts.language));
    }
    if facts.scrolls > 0 || !facts.beyond.is_empty() {
        faults.push(format!(
            "it is {} pixels too wide: {:?}",
            facts.scrolls, facts.beyond
        ));
    }
    if !facts.broken.is_empty() {
        faults.push(format!("words are broken: {:?}", facts.broken));
    }
    faults
}

/// That the browser complained of nothing.
#[track_caller]
pub(crate) fn assert_quiet(browser: &Browser, place: &str) {
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{place}: {complaints:#?}");
}

/// The rules of axe-core, in every page that a browser opens.
pub(crate) struct Axe<'b> {
    browser: &'b Browser,
}

impl<'b> Axe<'b> {
    /// As npm gives them, by the lock file that pins them.
    pub(crate) fn in_pages_of(browser: &'b Browser) -> Self {
        let kept = hgs_testkit::npm_packages("axe");
        let source = fs::read_to_string(kept.join("node_modules/axe-core/axe.min.js")).unwrap();
        let once = json!({"source": source});
        browser.of_developers("Page.addScriptToEvaluateOnNewDocument", &once);
        Self { browser }
    }

    /// That the page breaks none of the rules.
    #[track_caller]
    pub(crate) fn assert_kept(&self, place: &str) {
        let broken = self.broken();
        assert!(broken.is_empty(), "{place}: {broken:#?}");
    }

    /// The rules that the page breaks, and where.
    #[track_caller]
    pub(crate) fn broken(&self) -> Vec<String> {
        // The style sheet is there: nothing has to be fetched once more.
        let options = json!({"resultTypes": ["violations"], "preload": false});
        let script = "
            const said = broken => `${broken.id}: ${broken.help}: ${
                broken.nodes.map(node => `${node.html} ${node.failureSummary}`).join(' | ')}`;
            return axe.run(document, arguments[0]).then(result => result.violations.map(said));";
        let broken = self.browser.run_with(script, &json!([options]));
        serde_json::from_value(broken).unwrap()
    }
}

/// A folder of the build, where pictures of the pages are kept for people to look at.
pub(crate) struct Pictures {
    folder: PathBuf,
}

impl Pictures {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn take(&self, browser: &Browser, name: &str) {
        fs::write(self.folder.join(format!("{name}.png")), browser.picture()).unwrap();
    }
}
