//! The state as a whole: what is written is read, in every version that was ever written.
