//! `plugbay._core.Relay`: standard input and output as a way to the `/mcp` of a host.

use std::fs::File;
use std::os::fd::FromRawFd;

use pyo3::prelude::*;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind};
use crate::engine::mcp::relay::relay;
use crate::engine::python::convert::error_into_python;

/// Passes the messages of one MCP client on to a host.
#[pyclass(frozen, module = "plugbay._core")]
pub struct Relay {
    stop: CancellationToken,
}

#[pymethods]
impl Relay {
    #[new]
    fn new() -> Self {
        Self { stop: CancellationToken::new() }
    }

    /// Blocks until the input ends or `stop` is called. Takes the two descriptors over. Not for a thread of a host.
    #[expect(unsafe_code, reason = "descriptors come from Python as numbers")]
    #[expect(clippy::too_many_arguments, reason = "the two ends of the relay, as Python gives them")]
    fn run(&self, py: Python<'_>, url: &str, token: Option<String>, input: i32, output: i32) -> PyResult<()> {
        // SAFETY: the caller has made both with `os.dup` and gives them away.
        let streams = unsafe { (File::from_raw_fd(input), File::from_raw_fd(output)) };
        let ended = py.detach(|| {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
                Error::new(Kind::Internal, "the system gives no thread to run on").with_source(error)
            })?;
            let ended = runtime.block_on(relay(url, token, streams, &self.stop));
            // A thread may wait for input that never comes.
            runtime.shutdown_background();
            ended
        });
        ended.map_err(|error| error_into_python(py, &error))
    }

    /// Ends `run`, from any thread.
    fn stop(&self) {
        self.stop.cancel();
    }
}
