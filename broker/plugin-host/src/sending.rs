//! `wasi:http/outgoing-handler`, which gives a handle back that `wasmtime-wasi-http` keeps: that of a request's options. After as many
//! requests as an instance may hold handles, its next call would fail.

use crate::guest::Guest;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, ErrorCode, FutureIncomingResponse, Host as _, OutgoingRequest, RequestOptions,
};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

/// Linkers know later versions of 0.2 by it, too.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.0";

/// Adds all of `wasi:http` that plugins use.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), Guest::http)?;
    linker.instance(HANDLER)?.func_wrap("handle", handle)
}

type Handled = Result<Resource<FutureIncomingResponse>, ErrorCode>;

fn handle(
    mut store: StoreContextMut<'_, Guest>,
    (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>),
) -> wasmtime::Result<(Handled,)> {
    let mut http = store.data_mut().http();
    let given: Option<Resource<RequestOptions>> = options.as_ref().map(|options| Resource::new_own(options.rep()));
    let pending = http.handle(request, options);
    if let Some(given) = given {
        // It was the guest's until now, so it is there.
        let _ = http.table.delete(given);
    }
    Ok((match pending {
        Ok(pending) => Ok(pending),
        Err(error) => Err(http.convert_error_code(error)?),
    },))
}
