use std::collections::BTreeSet;
use std::fs;

/// The names that directly follow this text.
fn named(table: &str, before: &str) -> BTreeSet<String> {
    let rest = table.split(before).skip(1);
    rest.map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].to_owned()
    })
    .collect()
}

/// The names of the examples, from the folder.
fn examples() -> BTreeSet<String> {
    let mut examples = BTreeSet::new();
    for entry in fs::read_dir("examples").unwrap() {
        let path = entry.unwrap().path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").exists() {
            examples.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    examples
}

#[test]
fn table_names_every_example_and_no_other() {
    let examples = examples();
    let page = fs::read_to_string("examples/README.md").unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.contains("| [`")).collect();
    assert_eq!(named(&rows.join("\n"), "| [`"), examples);
    assert!(named(&page, "--example ").is_subset(&examples));
    assert_eq!(rows.len(), examples.len(), "one row each");
}

#[test]
fn every_example_is_a_target_of_one_package() {
    let mut targets = Vec::new();
    for manifest in ["Cargo.toml", "tests/libraries/Cargo.toml"] {
        let manifest = fs::read_to_string(manifest).unwrap().replace("\r\n", "\n");
        targets.extend(named(&manifest, "[[example]]\nname = \""));
    }
    targets.sort();
    let examples: Vec<_> = examples().into_iter().collect();
    assert_eq!(targets, examples, "list each example in one of the two manifests");
}
