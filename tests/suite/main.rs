//! The finished binary under test, a module per subject.

mod imports;
