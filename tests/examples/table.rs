use std::collections::BTreeSet;
use std::fs;

/// The names that come right after this.
fn named(table: &str, before: &str) -> BTreeSet<String> {
    let rest = table.split(before).skip(1);
    rest.map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].to_owned()
    })
    .collect()
}

#[test]
fn the_table_names_every_example_and_no_other() {
    let mut examples = BTreeSet::new();
    for entry in fs::read_dir("examples").unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            examples.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    let page = fs::read_to_string("examples/README.md").unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.contains("| [`")).collect();
    assert_eq!(named(&rows.join("\n"), "| [`"), examples);
    assert!(named(&page, "--example ").is_subset(&examples));
    assert_eq!(rows.len(), examples.len(), "one row each");
}
