//! Tests in a binary with its own `main`, because the tests also start this binary in other roles.
#![allow(unused_imports, unused_macros, reason = "not every test binary has trials")]

/// Makes a trial of each function, with the function's name and the watchdog.
macro_rules! trials {
    ($($(#[$only:meta])* $test:path),+ $(,)?) => {
        vec![$($(#[$only])* libtest_mimic::Trial::test(
            stringify!($test).rsplit(':').next().unwrap().trim(),
            || Ok($crate::common::watched($test)),
        )),+]
    };
}
pub(crate) use trials;
