//! The administrators' API.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::{Method, StatusCode};

use crate::config;
use crate::guardian::Guardian;
use crate::http::{Request, Response, Service};

pub(crate) struct AdminService {
    _guardian: Arc<Guardian>,
}

impl AdminService {
    pub(crate) fn new(guardian: Arc<Guardian>, _: &config::Admin) -> Self {
        Self {
            _guardian: guardian,
        }
    }
}

impl Service for AdminService {
    fn handle(&self, _: Request) -> BoxFuture<'_, Response> {
        Box::pin(async { Response::empty(StatusCode::NOT_FOUND) })
    }

    fn route(&self, _: &Method, _: &str) -> &'static str {
        "unknown"
    }
}
