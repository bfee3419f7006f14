//! Every test here runs on async-std and on smol, from the same source.

/// Runs async functions that are generic over the executor as tests on each runtime.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "async-std")]
        mod on_async_std {
            $(
                #[test]
                fn $name() {
                    async_std::task::block_on(super::$name::<origin_async_std::AsyncStdExecutor>());
                }
            )*
        }

        #[cfg(feature = "smol")]
        mod on_smol {
            $(
                #[test]
                fn $name() {
                    smol::block_on(super::$name::<origin_async_std::smol::SmolExecutor>());
                }
            )*
        }
    };
}

/// A client on any executor.
pub(crate) type Client<E> = origin_driver::Client<origin_async_std::AsyncIo<E>>;
