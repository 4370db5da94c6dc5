//! Starting containers, and what idle shims and daemons take.

mod memory;
mod run;

use crate::lab::Lab;

pub(crate) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    lab.run("run", run::measure)?;
    lab.run("memory", memory::measure)
}
