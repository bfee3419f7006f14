//! Any answer to any operation of any typed client: whole operations, from the request to what the
//! caller gets, by the list that the property tests go through.

use super::{Verdict, in_proportion, judged};
use crate::operations::fake::Fake;
use crate::operations::{Input, Reads, all};

/// Whether any operation that reads fields reads it. Given to all of them, as a success and as the
/// failure that some take for an answer.
pub(super) fn any(_: &str, bytes: &[u8]) -> Verdict {
    let mut verdict = Err("no operation reads it".to_owned());
    for status in [200, 404] {
        let fake = Fake::new(status, bytes);
        for operation in all::<Fake>() {
            let result = (operation.run)(&fake, &Input::PLAIN);
            let _ = judged(&result, bytes);
            let Ok(said) = result else { continue };
            in_proportion(said.len(), bytes);
            if status == 200 && operation.reads == Reads::Fields && said != "None" {
                verdict = Ok(());
            }
        }
    }
    verdict
}
