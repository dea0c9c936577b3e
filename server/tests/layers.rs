//! Imports run down: each module of the server stands on a floor and uses only what lies below it.
//!
//! The floors are those of docs/architecture.md. Modules on one floor do not use each other,
//! unless they belong to one top-level module.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The floors from the ground up: a name, and its modules. A module that is not named stands where the module does that
/// it belongs to. Below them all are the crates of our own.
const FLOORS: &[(&str, &[&str])] = &[
    ("saved state", &["saved"]),
    (
        "ground",
        &[
            "allocator",
            "chance",
            "clock",
            "drain",
            "keys",
            "leaving",
            "limits",
            "memory",
            "metrics",
            "notify",
            "quota",
        ],
    ),
    ("stanzas", &["stanza"]),
    ("protocol", &["control", "proto"]),
    ("outside", &["admission", "busiest", "http", "outbound"]),
    ("numbers", &["phone", "push"]),
    ("statistics", &["stats"]),
    ("configuration", &["config"]),
    ("shared", &["shared"]),
    ("transport", &["transport"]),
    ("negotiation", &["stream"]),
    ("session", &["session"]),
    ("surroundings", &["env"]),
    ("output", &["runtime"]),
    ("exchange", &["exchange"]),
    ("effects", &["effects"]),
    ("occupancy", &["occupancy"]),
    ("actors", &["user"]),
    ("services", &["service"]),
    ("rooms", &["rooms"]),
    ("router", &["router"]),
    ("inheritance", &["takeover"]),
    ("loop", &["worker"]),
    ("features", &["notifier", "registration", "upload", "web"]),
    ("parts", &["watch"]),
    ("running", &["running"]),
    ("replacement", &["upgrade"]),
    ("operation", &["operations"]),
    ("start", &["boot"]),
    ("programs", &["check", "cli", "lib", "main", "simulation", "upgrade_child", "watchdog"]),
];

/// What `runtime` passes on from the crate below it.
const PASSED_ON: [&str; 5] = ["driver", "gauge", "mailbox", "platform", "timer"];

/// The modules of the program `whimbreld` beside the library.
const PROGRAM: [&str; 6] = ["main", "cli", "check", "upgrade_child", "manual", "watchdog"];

/// The files of `server/src` without those that only tests need, by the path of their module.
struct Sources {
    files: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

impl Sources {
    fn read() -> Sources {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Sources { files: BTreeMap::new(), folder: folder.clone() };
        sources.add(&folder);
        assert!(sources.files.len() > 150, "the server has lost its sources");
        sources
    }

    fn add(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            if path.is_dir() {
                self.add(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.strip_prefix(&self.folder).unwrap().with_extension("");
                let module = module.to_str().unwrap().replace('/', "::");
                let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
                self.files.insert(module, path);
            }
        }
    }

    /// As the messages and the list name it.
    fn name(&self, module: &str) -> String {
        self.files[module].strip_prefix(&self.folder).unwrap().to_str().unwrap().to_owned()
    }

    /// The module that a path of names leads to; none when it leads to a crate or to an item of the root.
    fn target(&self, path: &[String]) -> Option<&str> {
        if let [runtime, passed_on, ..] = path
            && runtime == "runtime"
            && PASSED_ON.contains(&passed_on.as_str())
        {
            return None;
        }
        (1..=path.len()).rev().find_map(|length| {
            let module = path[..length].join("::");
            self.files.get_key_value(&module).map(|(module, _)| module.as_str())
        })
    }

    /// All pairs of modules of which the first uses the second.
    fn imports(&self) -> BTreeSet<(&str, &str)> {
        let mut pairs = BTreeSet::new();
        for (module, path) in &self.files {
            for path in paths(module, &without_tests(&std::fs::read_to_string(path).unwrap())) {
                if let Some(target) = self.target(&path).filter(|target| target != module) {
                    pairs.insert((module.as_str(), target));
                }
            }
        }
        pairs
    }
}

/// The text without comments and without the module of tests at its end.
fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let begins =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(begins).unwrap_or(lines.len());
    lines[..end].iter().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// Every path in the text that begins at the root of the crate or climbs to a module above its own.
fn paths(module: &str, text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let own: Vec<String> = module.split("::").map(str::to_owned).collect();
    let is_program = PROGRAM.contains(&module);
    for (at, _) in text.match_indices("::") {
        let head = word_before(&text[..at]);
        let before = &text[..at - head.len()];
        if before.ends_with("::") {
            continue;
        }
        let (mut base, mut rest) = match head {
            "crate" if !is_program => (Vec::new(), &text[at + 2..]),
            "whimbrel_server" if is_program => (Vec::new(), &text[at + 2..]),
            "super" => (own[..own.len() - 1].to_vec(), &text[at + 2..]),
            _ => continue,
        };
        while let Some(higher) = rest.strip_prefix("super::") {
            base.pop();
            rest = higher;
        }
        expand(base, rest, &mut found);
    }
    found
}

fn word_before(text: &str) -> &str {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    &text[text.trim_end_matches(is_part).len()..]
}

/// Follows a path, into each branch where braces divide it. Returns what comes behind it.
fn expand<'a>(mut base: Vec<String>, text: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = text.trim_start();
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') && !rest.is_empty() {
                let behind = expand(base.clone(), rest, found).trim_start();
                // An alias, or something that is no import: on to the next branch.
                let next = behind.find([',', '}']).unwrap_or(behind.len());
                rest = behind[next..].trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        if end > 0 && &rest[..end] != "self" {
            base.push(rest[..end].to_owned());
        }
        match rest[end..].strip_prefix("::") {
            Some(behind) if end > 0 => rest = behind,
            _ => {
                found.push(base);
                return &rest[end..];
            }
        }
    }
}

/// The number of a module's floor, and the module that the table names.
fn floor(module: &str) -> (usize, &'static str) {
    let rooms = FLOORS.iter().enumerate();
    let rooms = rooms.flat_map(|(number, (_, modules))| modules.iter().map(move |room| (number, *room)));
    let holds =
        |room: &str| module.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let found = rooms.filter(|(_, room)| holds(room)).max_by_key(|(_, room)| room.len());
    found.unwrap_or_else(|| panic!("{module} stands on no floor: give it one in server/tests/layers.rs"))
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Whether the import goes to a higher floor, or to another module on the same one.
fn runs_up(from: &str, to: &str) -> bool {
    let ((here, _), (there, _)) = (floor(from), floor(to));
    there > here || (there == here && top(from) != top(to))
}

/// The modules that can be reached from themselves, where `module` says to which one each file belongs.
fn in_cycles<'a>(
    imports: &BTreeSet<(&'a str, &'a str)>,
    module: impl Fn(&'a str) -> &'a str,
) -> Vec<&'a str> {
    let mut reaches: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in
        imports.iter().map(|(from, to)| (module(from), module(to))).filter(|(from, to)| from != to)
    {
        reaches.entry(from).or_default().insert(to);
    }
    for through in reaches.keys().copied().collect::<Vec<_>>() {
        let further = reaches[through].clone();
        for reached in reaches.values_mut().filter(|reached| reached.contains(through)) {
            reached.extend(&further);
        }
    }
    reaches.iter().filter(|(module, reached)| reached.contains(*module)).map(|(module, _)| *module).collect()
}

#[test]
fn imports_run_down() {
    let sources = Sources::read();
    let imports = sources.imports();
    assert!(imports.len() > 500, "only {} imports are found", imports.len());
    let up: BTreeSet<(String, String)> = imports
        .iter()
        .filter(|(from, _)| *from != "lib" && *from != "main")
        .filter(|(from, to)| runs_up(from, to))
        .map(|(from, to)| (sources.name(from), sources.name(to)))
        .collect();
    println!("{} imports between files", imports.len());
    let up: Vec<String> = up.iter().map(|(from, to)| format!("{from} uses {to}")).collect();
    assert!(up.is_empty(), "these imports run up (docs/architecture.md, Floors):\n{}", up.join("\n"));
    let whole = in_cycles(&imports, top);
    assert!(whole.is_empty(), "these modules use each other in circles: {}", whole.join(", "));
}

#[test]
fn the_table_of_floors_names_modules_that_are_there_and_the_page_shows_it() {
    let sources = Sources::read();
    let rooms: Vec<&str> = FLOORS.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    for room in &rooms {
        assert!(sources.files.contains_key(*room), "there is no module {room}");
    }
    assert_eq!(rooms.iter().collect::<BTreeSet<_>>().len(), rooms.len(), "a module stands on two floors");

    let mut table = String::from("| floor | modules |\n| --- | --- |\n");
    for (name, modules) in FLOORS.iter().rev() {
        let modules: Vec<String> = modules.iter().map(|module| format!("`{module}`")).collect();
        table += &format!("| {name} | {} |\n", modules.join(", "));
    }
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md"))
        .unwrap();
    assert!(page.contains(&table), "docs/architecture.md must show the floors as they are:\n{table}");
}

/// The modules that may ask the system for the time or for chance. Everything else takes both from `Env` and `Shared`, so
/// that the simulation owns them.
const ASK_THE_SYSTEM: &[(&str, &str)] = &[
    ("clock", "the clock itself"),
    ("chance", "chance itself"),
    ("boot", "a start waits, and seeds hashers"),
    ("notify", "the service manager is told the time of a reload"),
    ("takeover", "the clock of the program before"),
    ("upgrade", "deadlines for workers and child processes"),
    ("watch", "a thread beside the workers, with a period"),
    ("drain", "threads that wait for others, up to a deadline"),
    ("operations", "answers to the control socket, up to a deadline"),
    ("registration", "threads beside the workers, and services outside"),
    ("phone::pin", "keys and PINs, made on those threads"),
    ("outbound", "threads beside the workers, and services outside"),
    ("http", "threads beside the workers"),
    ("upload", "threads beside the workers"),
    ("web", "a thread beside the workers"),
    ("check", "a program"),
    ("watchdog", "a program's thread"),
];

#[test]
fn time_and_chance_come_from_env() {
    const WAYS: [&str; 7] = [
        "Instant::now",
        "SystemTime",
        ".elapsed()",
        "unix_milliseconds",
        "monotonic_ns",
        "SystemRandom",
        "RandomState::random",
    ];
    let sources = Sources::read();
    let mut found = Vec::new();
    let mut asking = BTreeSet::new();
    for (module, path) in &sources.files {
        let text = without_tests(&std::fs::read_to_string(path).unwrap());
        let allowed = ASK_THE_SYSTEM.iter().find(|(allowed, _)| {
            module.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        for (number, line) in text.lines().enumerate() {
            let Some(way) = WAYS.iter().find(|way| line.contains(**way)) else { continue };
            match allowed {
                Some((allowed, _)) => drop(asking.insert(*allowed)),
                None => found.push(format!("{}:{}: {way}", sources.name(module), number + 1)),
            }
        }
    }
    assert!(
        found.is_empty(),
        "these ask the system for time or chance, and the simulation runs them; take it from Env::clock or \
         Shared::chance:\n{}",
        found.join("\n")
    );
    let idle: Vec<_> = ASK_THE_SYSTEM.iter().filter(|(allowed, _)| !asking.contains(allowed)).collect();
    assert!(idle.is_empty(), "these may ask and do not, so they need no permission: {idle:?}");
}

#[test]
fn only_one_module_takes_addresses_apart() {
    let sources = Sources::read();
    // Other programs' worlds: forms of phone numbers, addresses of HTTP, the clients of the simulation.
    let others = ["proto::address", "http", "phone", "registration", "simulation", "check"];
    let mut found = Vec::new();
    for (module, path) in &sources.files {
        if others.iter().any(|other| {
            module.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        }) {
            continue;
        }
        let text = without_tests(&std::fs::read_to_string(path).unwrap());
        let ways = ["split_once('@')", "split('@')", "split_once('/')", "contains('/')", "strip_suffix('@')"];
        for way in ways.into_iter().chain(["strip_prefix('/')", ".domain() ==", ".domain() !="]) {
            if text.contains(way) {
                found.push(format!("{}: {way}", sources.name(module)));
            }
        }
    }
    assert!(found.is_empty(), "proto/address.rs takes addresses apart, nobody else:\n{}", found.join("\n"));
}

/// Lines with a namespace in them, comments left out: their numbers, and what was found.
fn namespaces_in(text: &str) -> Vec<(usize, &'static str)> {
    // Two of them name no scheme of ours: vCards, and offline messages.
    let beginnings = [
        "urn:xmpp:",
        "urn:ietf:params:xml:ns:",
        "jabber:",
        "http://jabber.org/",
        "http://etherx.jabber.org/",
    ];
    let whole = ["\"vcard-temp\"", "\"msgoffline\""];
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(number, line)| {
            let found = beginnings.into_iter().chain(whole).filter(move |name| line.contains(name));
            found.map(move |name| (number + 1, name))
        })
        .collect()
}

#[test]
fn every_namespace_is_written_once() {
    let sources = Sources::read();
    let mut found = Vec::new();
    for (module, path) in &sources.files {
        // The clients of the simulation write their own: a wrong name is to be noticed.
        if module == "proto::ns" || top(module) == "simulation" {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let tests_begin = without_tests(&text).lines().count();
        // Names of namespaces have two slashes in them: only whole lines are comments here.
        let is_comment = |line: &&str| line.trim_start().starts_with("//");
        let code = text.lines().take(tests_begin).map(|line| if is_comment(&line) { "" } else { line });
        for (line, name) in namespaces_in(&code.collect::<Vec<_>>().join("\n")) {
            found.push(format!("server/src/{}:{line}: {name}", sources.name(module)));
        }
    }
    assert!(found.is_empty(), "namespaces are written in proto/ns.rs, nowhere else:\n{}", found.join("\n"));
    let ours = without_tests(&std::fs::read_to_string(&sources.files["proto::ns"]).unwrap());
    assert!(namespaces_in(&ours).len() > 20, "the namespaces have gone from proto/ns.rs");
}

#[test]
fn namespaces_are_found_in_code() {
    let found =
        namespaces_in("let a = \"urn:xmpp:ping\";\nb(b\"<c xmlns='jabber:client'/>\")\n\"vcard-temp:x\"\n");
    assert_eq!(found, [(1, "urn:xmpp:"), (2, "jabber:")]);
}

#[test]
fn each_moment_of_a_users_life_is_called_in_one_place() {
    let sources = Sources::read();
    let moments = [
        "showing",
        "available",
        "unavailable",
        "contact_available",
        "interested",
        "detached",
        "asleep",
        "account_removed",
    ];
    for moment in moments {
        let call = format!("lifecycle::{moment}(");
        let count =
            |path: &PathBuf| without_tests(&std::fs::read_to_string(path).unwrap()).matches(&call).count();
        let places: Vec<String> =
            sources.files.iter().flat_map(|(module, path)| vec![sources.name(module); count(path)]).collect();
        assert_eq!(places.len(), 1, "{moment} is called in {places:?}");
    }
    let declared = std::fs::read_to_string(&sources.files["user::lifecycle"]).unwrap();
    let declared =
        declared.split("moments! {").nth(1).unwrap().split("\n}").next().unwrap().matches("),").count();
    assert_eq!(declared, moments.len(), "a moment is missing from this test");
}

#[test]
fn only_the_transport_frames_a_stream() {
    let sources = Sources::read();
    let mut found = Vec::new();
    for (module, path) in &sources.files {
        if ["transport", "simulation"].contains(&top(module)) || module == "proto::errors::stream" {
            continue;
        }
        let text = without_tests(&std::fs::read_to_string(path).unwrap());
        for way in ["<stream:stream", "</stream:stream", "<stream:error"] {
            if text.contains(way) {
                found.push(format!("{}: {way}", sources.name(module)));
            }
        }
    }
    assert!(
        found.is_empty(),
        "headers, errors and ends of streams are written in transport:\n{}",
        found.join("\n")
    );
}

#[test]
fn paths_are_found_however_they_are_written() {
    let found = |module: &str, text: &str| -> Vec<String> {
        paths(module, text).iter().map(|path| path.join("::")).collect()
    };
    let text =
        "use crate::a::{B, c::{D, E as F}, self};\nuse super::super::g::H;\nfn f() -> crate::i::J<x::Y> {}";
    assert_eq!(
        found("one::two::three", text),
        ["a::B", "a::c::D", "a::c::E", "a", "one::g::H", "i::J"],
        "groups, aliases, climbing, and paths in the midst of code"
    );
    assert_eq!(found("main", "use whimbrel_server::boot;\nuse crate::cli;"), ["boot"]);
    assert_eq!(floor("user::home").1, "user");
}
