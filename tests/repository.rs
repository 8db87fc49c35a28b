//! Rules of this repository: the module layers of docs/architecture.md hold, the tests, files and items that
//! the pages name exist, links lead somewhere, files are short, and some words are not used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers by module, from the table in docs/architecture.md.
fn layers() -> BTreeMap<String, u32> {
    let page = fs::read_to_string("docs/architecture.md").unwrap();
    let mut layers = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let Ok(layer) = cells[1].parse() else { continue };
        for module in cells[2].split(", ") {
            layers.insert(module.trim_matches('`').to_owned(), layer);
        }
    }
    layers
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder));
    files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        .chain(below)
        .collect()
}

/// The top-level module of a file in src.
fn module(file: &Path) -> String {
    let first = file.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The top-level modules that a source names as `crate::module::…`, except in comments.
fn imports(source: &str) -> Vec<&str> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    let end =
        |path: &str| path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    paths
        .map(|path| &path[..end(path)])
        .filter(|name| name.starts_with(char::is_lowercase))
        .collect()
}

#[test]
fn modules_import_only_from_lower_layers() {
    let layers = layers();
    let mut seen = Vec::new();
    for file in sources(Path::new("src")) {
        let own = module(&file);
        let layer = *layers.get(&own).unwrap_or_else(|| panic!("{own} is in no layer"));
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let below = *layers.get(import).unwrap_or_else(|| panic!("{import} is in no layer"));
            assert!(
                import == own || below < layer,
                "{}, in layer {layer}, imports {import}, in layer {below}",
                file.display()
            );
            seen.push(import.to_owned());
        }
        if !seen.contains(&own) {
            seen.push(own);
        }
    }
    for module in layers.keys() {
        assert!(seen.contains(module), "{module} is in the table and not in src");
    }
    assert!(seen.len() > 50, "only {} imports were found", seen.len());
}

/// The lines of a page outside its code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The targets of the links in a page: the text in `](…)`.
fn links(page: &str) -> Vec<&str> {
    let ends = prose(page).flat_map(|line| line.split("](").skip(1));
    ends.map(|rest| rest.split(')').next().unwrap()).collect()
}

/// The anchors of a page's headings, as GitHub builds them.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    let folders = [".", "docs", "docs/decisions", "examples", "fuzz", "tests/vectors"];
    let pages = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut followed = 0;
    for page in pages.filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: there is no {file}", page.display());
            let there = || anchors(&fs::read_to_string(&target).unwrap());
            assert!(
                anchor.is_empty() || there().iter().any(|heading| heading == anchor),
                "{}: {} has no heading #{anchor}",
                page.display(),
                target.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}

/// The names of the tests in a source.
fn tests(source: &str) -> BTreeSet<&str> {
    fn function(line: &str) -> Option<&str> {
        line.split_once("fn ")?.1.split(['(', '<']).next()
    }
    if source.contains("trials![") || source.contains("Trial::") {
        // Any function may be a trial, under a name of its own. The compiler reports a function that no trial
        // uses.
        let names = source.split('"').skip(1).step_by(2);
        return source.lines().filter_map(function).chain(names).collect();
    }
    let tests = source.split("#[test]").skip(1);
    tests.filter_map(|after| after.lines().find_map(function)).collect()
}

/// The sources in which the test `name` may be: `file::test` is in tests/file.rs or in the folder tests/file,
/// `src::file::test` is in src/file.rs.
fn sources_of(name: &str) -> Vec<PathBuf> {
    let file = name.rsplit_once("::").map_or("", |(file, _)| file);
    let file = match file.strip_prefix("src::") {
        Some(file) => Path::new("src").join(file.replace("::", "/")),
        None => Path::new("tests").join(file),
    };
    let beside = if file.is_dir() { sources(&file) } else { Vec::new() };
    beside.into_iter().chain([file.with_extension("rs")]).collect()
}

#[test]
fn table_rows_name_existing_tests() {
    for matrix in ["docs/reliability.md", "SECURITY.md"] {
        let page = fs::read_to_string(matrix).unwrap();
        let mut named = 0;
        for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        {
            let shown_by = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap().trim();
            if shown_by == "shown by" {
                continue;
            }
            for name in shown_by.split(", ") {
                let name = name.trim_matches('`');
                let test = name.rsplit("::").next().unwrap();
                let exists = Path::new(name).is_file()
                    || sources_of(name)
                        .iter()
                        .filter_map(|file| fs::read_to_string(file).ok())
                        .any(|source| tests(&source).contains(test));
                assert!(exists, "there is no test {name}, which {matrix} names:\n{row}");
                named += 1;
            }
        }
        assert!(named > 15, "only {named} tests were found in {matrix}");
    }
}

/// The texts between backquotes in a page, outside its code blocks.
fn code_spans(page: &str) -> impl Iterator<Item = &str> {
    prose(page).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// All files below a folder, except the results of builds.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().filter(|folder| !folder.ends_with("target"));
    files.into_iter().chain(below.flat_map(|folder| self::files(folder))).collect()
}

/// Whether `path` is a file or a folder of the repository. A page may leave out the first folders.
fn is_in_repository(path: &str, files: &[PathBuf]) -> bool {
    let path = Path::new(path);
    path.exists() || files.iter().any(|file| file.ancestors().any(|above| above.ends_with(path)))
}

#[test]
fn maintainers_pages_name_existing_files_and_items() {
    let folders = ["src", "tests", "docs", "examples", "benches", "fuzz", ".ci", ".github"];
    let files: Vec<_> = folders.iter().flat_map(|folder| files(Path::new(folder))).collect();
    let is_code = |file: &&PathBuf| {
        file.extension().is_some_and(|e| ["rs", "py", "toml", "json"].iter().any(|code| e == *code))
    };
    let code: Vec<_> =
        files.iter().filter(is_code).map(fs::read_to_string).map(Result::unwrap).collect();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
    let words = code.iter().flat_map(|text| text.split(|c| !is_part(c))).chain(stems);
    let words: BTreeSet<_> = words.collect();
    for page in ["CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"] {
        let text = fs::read_to_string(page).unwrap();
        let mut named = 0;
        for span in code_spans(&text) {
            let span = span.trim_end_matches(['/', '!']).trim_end_matches("()");
            // `src/file.rs` and `file::test` explain how the tables name tests. Windows has the rights FILE_….
            let is_foreign =
                ["file.rs", "file::test", "FILE_"].iter().any(|part| span.contains(part));
            if span.is_empty() || is_foreign {
                continue;
            }
            let is_path =
                span.contains('/') || [".rs", ".md", ".py"].iter().any(|e| span.ends_with(e));
            if is_path && !span.contains(char::is_whitespace) {
                assert!(is_in_repository(span, &files), "{page}: there is no file {span}");
            } else if span.chars().all(|c| is_part(c) || c == ':') {
                let missing = span.split("::").find(|part| !words.contains(part));
                assert!(missing.is_none(), "{page}: {span} is in no source");
            } else {
                continue;
            }
            named += 1;
        }
        assert!(named > 20, "only {named} names were found in {page}");
    }
}

#[test]
fn only_the_plugins_id_is_read_from_the_environment() {
    let of_a_plugin = |file: &Path| !["bin", "dev_agent"].contains(&module(file).as_str());
    let reads = |file: &Path| {
        let source = fs::read_to_string(file).unwrap();
        let mut code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.any(|line| line.contains("env::var"))
    };
    let readers: Vec<_> =
        sources(Path::new("src")).into_iter().filter(|f| of_a_plugin(f) && reads(f)).collect();
    assert_eq!(readers, [Path::new("src/metadata.rs")]);
}

#[test]
fn every_option_is_in_both_tables() {
    let runner = fs::read_to_string("src/runner/mod.rs").unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    let option = |line: &str| {
        let (name, rest) = line.strip_prefix("    pub fn ")?.split_once('(')?;
        let is_setter = rest.starts_with("mut self,");
        is_setter.then(|| name.split('<').next().unwrap().to_owned())
    };
    let options: Vec<_> = runner.lines().filter_map(option).collect();
    assert!(options.len() >= 10, "{options:?}");
    for option in options {
        assert!(readme.contains(&format!("\n| `{option}` |")), "README.md lacks {option}");
        let row = format!("/// | [`{option}`](Self::{option}) |");
        assert!(runner.contains(&row), "Runner::new's table lacks {option}");
    }
}

/// The files that may be longer than [`MOST_LINES`], and why.
const LONG_FILES: [(&str, &str); 5] = [
    ("src/queue/model.rs", "one model after another, which share how they open and watch a queue"),
    ("src/runner/mod.rs", "nearly all of it documents options"),
    ("tests/errors.rs", "one page, provoked text by text"),
    ("tests/misbehaviour.rs", "one misbehaviour after another"),
    ("tests/vectors.rs", "one set of vectors, both ways"),
];
const MOST_LINES: usize = 400;

#[test]
fn long_files_have_a_reason() {
    for file in ["src", "tests", "benches", "examples"].iter().flat_map(|f| sources(Path::new(f))) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let argued = LONG_FILES.iter().any(|(long, _)| file == Path::new(long));
        assert!(lines <= MOST_LINES || argued, "{} has {lines} lines", file.display());
    }
}

/// Words that are not used here, and what to write instead. See *Style* in CONTRIBUTING.md.
const WORDS: [(&str, &str); 13] = [
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("burn", "skip a number"),
    ("burns", "skips a number"),
    ("burnt", "skipped"),
    ("anybody", "the thing: any process, any thread"),
    ("everybody", "the thing: all processes, all users"),
    ("somebody", "the thing: a user, another process"),
    ("whoever", "the thing: a process that, a thread that"),
    ("ways in", "attack surface"),
    ("in hand", "in flight"),
    ("nobody", "the thing: no other thread, no process"),
];

#[test]
fn texts_avoid_unclear_words() {
    let folders = ["src", "tests", "docs", "examples", "benches", "fuzz/fuzz_targets"];
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|f| texts(Path::new(f))).collect();
    let pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    files.extend(pages.map(PathBuf::from));
    assert!(files.len() > 150, "only {} files were found", files.len());
    for file in files.iter().filter(|file| !file.ends_with("tests/repository.rs")) {
        let text = fs::read_to_string(file).unwrap();
        // The user with this name is written in backquotes.
        let text = text.replace("`nobody`", "").to_lowercase();
        let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let text = format!(" {} ", words.join(" "));
        for (word, instead) in WORDS {
            let found = text.contains(&format!(" {word} "));
            assert!(!found, "{}: write {instead:?} instead of {word:?}", file.display());
        }
    }
}

/// The sources and pages below a folder.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_text = |file: &PathBuf| file.extension().is_some_and(|e| e == "rs" || e == "md");
    let below = folders.iter().filter(|folder| !folder.ends_with("target"));
    files.into_iter().filter(is_text).chain(below.flat_map(|folder| texts(folder))).collect()
}
