//! The guard: walks a request body before any codec sees it.
//!
//! The codecs reserve memory for whatever array count the wire claims; a dozen hostile bytes would abort the process.
//! The walk holds every length and count against the bytes that are left (an array's elements each need a minimum of
//! bytes by their schema), allocates nothing, and adds up what the decoder will reserve.
//!
//! What always holds: after a walk that passed, decoding allocates at most the estimate, and reads no byte beyond the
//! body. Nesting is bounded because the tables are. Null where the schema has none is refused, as are text that is not
//! UTF-8 and varints that do not fit 32 bits. So the codecs have nothing left to refuse. Bytes behind the last field are
//! left alone, as Kafka does: librdkafka sends some.
//!
//! What it does not do: it does not judge values. Records are validated by the log.

mod schema;
pub(crate) mod schemas;
mod walk;

pub use schema::{Field, Item, Kind, Scalar, Schema, Versions};
pub use walk::{GuardError, GuardFault};
pub(crate) use walk::{check, walk_tags};
