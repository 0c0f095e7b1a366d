//! The map of the house holds: every room is on it, rooms use only what the map allows, and no arrows go in a circle.
//!
//! The map is the table at the head of a crate's `lib.rs`: `//! | [`room`] | what lives there | rooms it uses |`, and for the crates
//! themselves the table of ARCHITECTURE.md: `| [`crate/`](crate) | what lives there | crates it uses |`. Arrows are read from `crate::room`
//! paths and from the manifests. Tests within a file may use what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// Rooms or crates, each with those that it uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Crates whose `src` has rooms.
const CRATES_WITH_ROOMS: [&str; 7] = ["model", "features", "tasks", "cli", "train", "convert", "extract"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of a map: the name in the first column, the names in code quotes in the last.
fn map(text: &str) -> Arrows {
    let row = Regex::new(r"^(?://! )?\| \[?`([a-z_]+)/?`\]?(?:\([^)]*\))? \|[^|]*\|([^|]*)\|$").unwrap();
    let name = Regex::new(r"`([a-z_]+)/?`").unwrap();
    let rows = text.lines().filter_map(|line| row.captures(line));
    rows.map(|row| (row[1].to_owned(), name.captures_iter(&row[2]).map(|name| name[1].to_owned()).collect())).collect()
}

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// A file without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    Regex::new("//.*").unwrap().replace_all(code, "").into_owned()
}

/// What the code of a crate uses: an arrow per room, each with a file that shows it.
fn arrows(source: &Path) -> BTreeMap<(String, String), String> {
    let path = Regex::new(r"\bcrate::(?:([a-z_]+)|\{([^;]*?)\};)").unwrap();
    let inner = Regex::new(r"\{[^{}]*\}").unwrap();
    let mut found = BTreeMap::new();
    for file in rust_files(source) {
        let within = file.strip_prefix(source).unwrap();
        let room = within.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let text = code(&file);
        for uses in path.captures_iter(&text) {
            let names: Vec<String> = match (uses.get(1), uses.get(2)) {
                (Some(name), _) => vec![name.as_str().to_owned()],
                (_, group) => {
                    // Only the outermost names of a group are rooms.
                    let outer = inner.replace_all(group.map_or("", |group| group.as_str()), "").into_owned();
                    let paths = outer.split(',').filter_map(|path| path.trim().split("::").next()).map(str::to_owned);
                    paths.filter(|name| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')).collect()
                }
            };
            for name in names.into_iter().filter(|name| *name != room) {
                found.insert((room.clone(), name), within.display().to_string());
            }
        }
    }
    found
}

/// The rooms of a crate: its top modules.
fn rooms(source: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(source).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = entries.map(|name| name.trim_end_matches(".rs").to_owned());
    names.filter(|name| !["lib", "main", "bin"].contains(&name.as_str())).collect()
}

/// A way from a name back to itself, if there is one.
fn circle(arrows: &Arrows) -> Option<String> {
    let mut left = arrows.clone();
    loop {
        let known: BTreeSet<String> = left.keys().cloned().collect();
        let ends: Vec<String> = known.iter().filter(|name| left[*name].is_disjoint(&known)).cloned().collect();
        if ends.is_empty() {
            return (!left.is_empty()).then(|| left.keys().cloned().collect::<Vec<_>>().join(", "));
        }
        ends.iter().for_each(|name| drop(left.remove(name)));
    }
}

#[test]
fn rooms_are_on_the_map_and_use_what_it_allows() {
    let mut faults = Vec::new();
    for name in CRATES_WITH_ROOMS {
        let source = root().join(name).join("src");
        let lib = source.join("lib.rs");
        let head = if lib.exists() { lib } else { source.join("main.rs") };
        let (map, rooms) = (map(&read(&head)), rooms(&source));
        let named: BTreeSet<String> = map.keys().cloned().collect();
        faults
            .extend(rooms.difference(&named).map(|room| format!("{name}: the map in {} does not name `{room}`", head.display())));
        faults.extend(named.difference(&rooms).map(|room| format!("{name}: there is no room `{room}`, but the map names it")));
        faults.extend(circle(&map).map(|names| format!("{name}: the map has a circle among {names}")));
        let used = arrows(&source);
        for ((from, to), file) in &used {
            let allowed = map.get(from).is_some_and(|allowed| allowed.contains(to));
            if rooms.contains(to) && !allowed {
                faults.push(format!("{name}: {file} uses `{to}`, which the map does not allow `{from}`"));
            }
        }
        for (from, allowed) in &map {
            let idle = allowed.iter().filter(|to| !used.contains_key(&(from.clone(), (*to).clone())));
            faults.extend(idle.map(|to| format!("{name}: the map lets `{from}` use `{to}`, but nothing there does")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn crates_are_on_the_map_and_use_what_it_allows() {
    let map = map(&read(&root().join("ARCHITECTURE.md")));
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    let workspace = &manifest["workspace"];
    let members: BTreeSet<String> =
        workspace["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap().to_owned()).collect();
    assert_eq!(
        map.keys().cloned().collect::<BTreeSet<_>>(),
        members,
        "the crates of ARCHITECTURE.md and the workspace's members"
    );
    assert_eq!(circle(&map), None, "the map of crates has a circle");

    // Package names to folders, from the workspace's own dependencies.
    let dependencies = workspace["dependencies"].as_table().unwrap();
    let folder = |package: &str| dependencies.get(package)?.get("path")?.as_str().map(str::to_owned);
    for member in &members {
        let manifest: toml::Table = read(&root().join(member).join("Cargo.toml")).parse().unwrap();
        let used = manifest.get("dependencies").and_then(toml::Value::as_table);
        let used: BTreeSet<String> = used.iter().flat_map(|table| table.keys()).filter_map(|package| folder(package)).collect();
        assert_eq!(map[member], used, "what `{member}` uses: the map, and its manifest");
    }
}

#[test]
fn the_reader_of_maps_sees_arrows_and_circles() {
    let map = map("//! | [`a`] | upper, with a `word` | `b`, `c` |\n| [`b/`](b) | lower | |\n//! | room | what | uses |");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(map, Arrows::from([("a".into(), names(&["b", "c"])), ("b".into(), names(&[]))]));
    assert_eq!(circle(&map), None);
    let round = Arrows::from([("a".into(), names(&["b"])), ("b".into(), names(&["a"])), ("c".into(), names(&["a"]))]);
    assert_eq!(circle(&round).as_deref(), Some("a, b, c"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let text = "use crate::{b::{x, y}, c, d, Error};\n// crate::comment\nfn f() { crate::e::g() }\n#[cfg(test)]\nmod tests { use crate::f; }\n";
    std::fs::write(folder.path().join("a/mod.rs"), text).unwrap();
    let found: Vec<String> = arrows(folder.path()).into_keys().map(|(from, to)| format!("{from}-{to}")).collect();
    assert_eq!(found, ["a-b", "a-c", "a-d", "a-e"]);
}
