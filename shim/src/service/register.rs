//! Names for the handlers.

use std::{collections::HashMap, future::Future, sync::Arc};

use corten_api::{
    containerd::task::v3,
    ttrpc::{RequestContext, method, service, waiting_method},
};
use corten_types::Result;
use prost::Message;
use ttrpc::asynchronous::{MethodHandler, Server};

use super::Shim;
use crate::log;

/// Both versions have the same messages; only the name of the service differs.
const TASK_SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// A service that a daemon may ask for and that runc's shim does not have. Without a registration ttrpc's answer would not
/// say so.
const ABSENT_SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

type Handler = Box<dyn MethodHandler + Send + Sync>;

/// Adds the services of `shim` to `server`.
pub(crate) fn register(mut server: Server, shim: &Arc<Shim>) -> Server {
    for name in TASK_SERVICES {
        server = server.register_service(service(name, handlers(shim)));
    }
    let none: HashMap<&'static str, Handler> = HashMap::new();
    server.register_service(service(ABSENT_SERVICE, none))
}

/// A method that runs to its end.
fn work<Req, Resp, Fut>(
    name: &'static str,
    shim: &Arc<Shim>,
    handler: impl Fn(Arc<Shim>, Req) -> Fut + Send + Sync + 'static,
) -> (&'static str, Handler)
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
    Fut: Future<Output = Result<Resp>> + Send + 'static,
{
    let shim = shim.clone();
    let logged = move |_: RequestContext, request: Req| {
        let work = handler(shim.clone(), request);
        async move {
            let done = work.await;
            match &done {
                Ok(_) => log::debug(format_args!("{name}: done")),
                Err(error) => log::debug(format_args!("{name}: {}", error.chain())),
            }
            done
        }
    };
    (name, method(logged))
}

fn handlers(shim: &Arc<Shim>) -> Vec<(&'static str, Handler)> {
    let waiting = shim.clone();
    vec![
        work("Create", shim, Shim::create),
        work("Start", shim, Shim::start),
        work("Delete", shim, Shim::delete),
        work("Exec", shim, Shim::exec),
        work("ResizePty", shim, Shim::resize_pty),
        work("CloseIO", shim, Shim::close_io),
        work("State", shim, Shim::state),
        work("Pause", shim, Shim::pause),
        work("Resume", shim, Shim::resume),
        work("Kill", shim, Shim::kill),
        work("Pids", shim, Shim::pids),
        work("Checkpoint", shim, Shim::checkpoint),
        work("Update", shim, Shim::update),
        work("Stats", shim, Shim::stats),
        work("Connect", shim, Shim::connect),
        work("Shutdown", shim, Shim::shutdown),
        (
            "Wait",
            waiting_method(move |_: RequestContext, request: v3::WaitRequest| waiting.clone().wait(request)),
        ),
    ]
}
