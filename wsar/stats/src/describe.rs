//! What a cell means.

use crate::cell::HISTOGRAM_WORDS;

/// What kind of value a metric has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Only grows until the server restarts.
    Counter = 1,
    /// Goes up and down; the sum over instances is meaningful.
    Gauge = 2,
    /// A high-water mark or a limit; the maximum over instances is meaningful.
    HighWater = 3,
    /// How often each value occurred; a [`Histogram`](crate::Histogram).
    Histogram = 4,
}

impl Kind {
    /// Words that a metric of this kind takes.
    pub const fn words(self) -> usize {
        match self {
            Kind::Histogram => HISTOGRAM_WORDS,
            Kind::Counter | Kind::Gauge | Kind::HighWater => 1,
        }
    }

    /// The kind with a number; `None`: there is none.
    pub const fn from_number(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Counter,
            2 => Kind::Gauge,
            3 => Kind::HighWater,
            4 => Kind::Histogram,
            _ => return None,
        })
    }

    /// As it is written in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::HighWater => "high-water mark",
            Kind::Histogram => "histogram",
        }
    }
}

/// What a metric is.
#[derive(Copy, Clone, Debug)]
pub struct Description {
    /// Dotted name, as shown everywhere.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit of the value.
    pub unit: &'static str,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// The type of the field for a kind of metric.
#[macro_export]
#[doc(hidden)]
macro_rules! cell_of {
    (Histogram) => {
        $crate::Histogram
    };
    ($other:ident) => {
        $crate::Cell
    };
}

/// Declares a block: a struct with a field for each metric, from a table with one row a metric.
///
/// ```
/// whimbrel_stats::metrics! {
///     /// The metrics of a mill.
///     Mill {
///         turns "turns" Counter "turns" "Turns of the wheel.";
///         stall "stall" Histogram "microseconds" "How long the wheel stood still each time.";
///     }
/// }
/// let mill = Mill::default();
/// mill.turns.add(1);
/// mill.stall.record(1500);
/// assert_eq!(mill.values(), [1, 1]);
/// ```
#[macro_export]
macro_rules! metrics {
    ($(#[$meta:meta])* $block:ident {
        $($field:ident $name:literal $kind:ident $unit:literal $help:literal;)*
    }) => {
        $(#[$meta])*
        // A private module may declare a block, too.
        #[allow(unreachable_pub, dead_code)]
        #[derive(Default, Debug)]
        #[repr(C, align(128))]
        pub struct $block {
            $(#[doc = $help] pub $field: $crate::cell_of!($kind),)*
        }

        // SAFETY: the struct is `repr(C)`, every field is as many words as its kind says, and all words may be zero.
        #[allow(unsafe_code)]
        unsafe impl $crate::Block for $block {
            const DESCRIPTIONS: &'static [$crate::Description] = &[
                $($crate::Description { name: $name, kind: $crate::Kind::$kind, unit: $unit, help: $help },)*
            ];
        }

        #[allow(unreachable_pub, dead_code)]
        impl $block {
            /// The values now, in the order of the descriptions; of a histogram, how many values it counts.
            pub fn values(&self) -> Vec<u64> {
                Vec::from([$(self.$field.get(),)*])
            }
        }
    };
}
