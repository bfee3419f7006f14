//! One test per runtime out of one function over a `Subject`. What a subject is, is the suite's:
//! whoever uses these has a module `subject` with one for each runtime at its root.

/// Makes a test per runtime of each function over `Subject`.
#[macro_export]
macro_rules! on_every_runtime {
    ($($name:ident)*) => { $(
        mod $name {
            $crate::on_runtimes! {
                $name: on_tokio Tokio, on_async_std AsyncStd, on_smol Smol, on_blocking Blocking
            }
        }
    )* };
}

/// The same for what only a future can do: be dropped.
#[macro_export]
macro_rules! on_every_async_runtime {
    ($($name:ident)*) => { $(
        mod $name {
            $crate::on_runtimes! { $name: on_tokio Tokio, on_async_std AsyncStd, on_smol Smol }
        }
    )* };
}

/// One function on these.
#[doc(hidden)]
#[macro_export]
#[allow(clippy::crate_in_macro_def)] // the subjects are those of the suite
macro_rules! on_runtimes {
    ($name:ident: $($test:ident $subject:ident),*) => { $(
        #[test]
        fn $test() {
            super::$name::<crate::subject::$subject>();
        }
    )* };
}
