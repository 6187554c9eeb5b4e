//! What happened, a line each.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use cachalot_core::{Clock, Timestamp};

/// Written only where it is read: most worlds are lived through without a trace. Clones are the same log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    clock: Clock,
    start: Timestamp,
    lines: Option<Arc<Mutex<String>>>,
}

impl Log {
    pub(super) fn new(clock: Clock, is_kept: bool) -> Self {
        Self { start: clock.now(), clock, lines: is_kept.then(Arc::default) }
    }

    pub(super) fn note(&self, line: fmt::Arguments<'_>) {
        if let Some(lines) = &self.lines {
            let now = self.clock.now().since(self.start).as_millis();
            let _ = writeln!(lines.lock().unwrap(), "{now:>5} ms  {line}");
        }
    }

    pub(super) fn lines(&self) -> String {
        self.lines.as_ref().map(|lines| lines.lock().unwrap().clone()).unwrap_or_default()
    }
}
