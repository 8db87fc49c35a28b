use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{example, watched};

#[test]
fn tune_tries_every_setting_and_draws_both_tables() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(example("tune"));
        command.args(["--rate", "1000", "--burst", "10", "--stall", "1ms", "--lasting", "40ms"]);
        let ran = command.arg("--out").arg(folder.path()).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
        let rows = said.lines().filter(|line| line.starts_with('|')).count();
        // Two heads of two lines; seven capacities under two policies, and seven lingers.
        assert_eq!(rows, 4 + 14 + 7, "{said}");
        for plot in ["capacity.svg", "linger.svg"] {
            let svg = fs::read_to_string(folder.path().join(plot)).unwrap();
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{plot}: {svg}");
        }
    });
}
