//! Tests of a binary that is also started in other roles, and so has a `main` of its own.
#![allow(unused_imports, unused_macros, reason = "not every test binary is one")]

/// The functions as trials of their names, each with the watchdog.
macro_rules! trials {
    ($($(#[$only:meta])* $test:path),+ $(,)?) => {
        vec![$($(#[$only])* libtest_mimic::Trial::test(
            stringify!($test).rsplit(':').next().unwrap().trim(),
            || Ok($crate::common::watched($test)),
        )),+]
    };
}
pub(crate) use trials;
