//! Compiles every shader in headless Chromium, whose compiler (Tint) is stricter than naga: a barrier must
//! be in control flow that is seen to be the same for all threads of a workgroup.
//!
//! The pipelines are those that this backend makes for the training plans and windows of every preset. The
//! browser is on software rendering, so no graphics card is needed. It loads `browser.html` from this
//! process and posts what it found. Without Chromium the tests print SKIP; with `browser` in
//! `PIXTAPE_REQUIRE` they fail.

use crate::{is_required, open};
use pixtape::backend::Backend;
use pixtape::backend::wgpu::Options;
use pixtape::backend::wgpu::shaders::Shader;
use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model};
use pixtape::parameters;
use pixtape::sampling::Sampler;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than the minute that it takes on two cores that do other work.
const LIMIT: Duration = Duration::from_secs(600);

/// A browser that ends with its value.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name of a Chromium that can be started. `None` after SKIP was printed.
fn chromium() -> Option<&'static str> {
    let starts = |name: &&str| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(starts);
    if found.is_none() {
        assert!(!is_required("browser"), "PIXTAPE_REQUIRE asks for `browser`, but there is no chromium");
        println!("SKIP: there is no Chromium (package chromium)");
    }
    found
}

/// A shader as the page takes it.
fn shader(name: &str, code: String, pipelines: Vec<Value>) -> Value {
    json!({ "name": name, "code": code, "pipelines": pipelines })
}

/// What the browser makes of these shaders.
fn compile(chromium: &str, shaders: &[Value]) -> Value {
    // A script ends at the first `</`.
    let shaders = json!(shaders).to_string().replace("</", "<\\/");
    let page = include_str!("browser.html").replace("SHADERS_AS_JSON", &shaders);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(chromium);
    // As root, Chromium has no sandbox. Software rendering has to be allowed.
    command.args(["--headless", "--no-sandbox", "--no-first-run", "--no-proxy-server"]);
    command.args(["--enable-unsafe-webgpu", "--enable-unsafe-swiftshader"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("http://{}/", listener.local_addr().unwrap()));
    let browser = Browser(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let (start, mut result) = (Instant::now(), None);
    while result.is_none() {
        assert!(start.elapsed() < LIMIT, "the browser has not answered");
        match listener.accept() {
            Ok((connection, _)) => result = answer(connection, &page),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    drop(browser);
    serde_json::from_str(&result.unwrap()).unwrap()
}

/// Answers a request: the page, or nothing. Returns what was posted.
fn answer(mut connection: TcpStream, page: &str) -> Option<String> {
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut bytes, mut part) = (vec![], [0; 4096]);
    let head = loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            break head.to_string();
        }
        match connection.read(&mut part) {
            // The browser also opens connections that it does not use.
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend(&part[..n]),
        }
    };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let end = head.len() + 4 + length.unwrap_or(0);
    while bytes.len() < end {
        let n = connection.read(&mut part).unwrap();
        assert!(n > 0, "the browser has left");
        bytes.extend(&part[..n]);
    }
    let (status, body) = if head.starts_with("GET / ") { ("200 OK", page) } else { ("404 Not Found", "") };
    let kind = "Content-Type: text/html; charset=utf-8\r\nConnection: close";
    let reply = format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = connection.write_all(reply.as_bytes());
    head.starts_with("POST /result ").then(|| String::from_utf8(bytes[head.len() + 4..end].to_vec()).unwrap())
}

/// Every shader with the pipelines that the plans of all presets need.
fn shaders_of_every_preset() -> Option<Vec<Value>> {
    let mut device = open(Options::default())?;
    for name in PRESETS.iter().map(|preset| preset.name) {
        let model = Model::new(&preset(name).unwrap()).unwrap();
        parameters::initialize(&mut device, &model.set, 1).unwrap();
        for plan in model.training() {
            device.compile(&plan).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        if matches!(model.family, Family::Autoregressive(_)) {
            Sampler::new(&mut device, &model, 2).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        device.clear();
    }
    let mut pipelines: BTreeMap<Shader, Vec<Value>> = BTreeMap::new();
    for (shader, entry, constants) in device.pipelines() {
        let constants: BTreeMap<_, _> = constants.into_iter().collect();
        pipelines.entry(shader).or_default().push(json!({ "entry": entry, "constants": constants }));
    }
    let of = |of: Shader| shader(of.name(), of.source(), pipelines.remove(&of).unwrap_or_default());
    Some(Shader::ALL.map(of).to_vec())
}

#[test]
fn every_shader_compiles_in_a_browser_with_the_pipelines_of_every_preset() {
    let Some(chromium) = chromium() else { return };
    let Some(shaders) = shaders_of_every_preset() else { return };
    let wanted: usize = shaders.iter().map(|shader| shader["pipelines"].as_array().unwrap().len()).sum();
    let found = compile(chromium, &shaders);
    assert_eq!(found["errors"], json!([]));
    assert_eq!(found["made"], wanted);
    println!("{wanted} pipelines of {} shaders", shaders.len());
    assert!(wanted > 60, "only {wanted} pipelines");
}

#[test]
fn a_barrier_that_only_some_threads_meet_is_refused() {
    let Some(chromium) = chromium() else { return };
    let sound = Shader::Norm.source();
    let broken = sound.replace("if !has_chunk(index) {", "if !has_chunk(index) || t == 7u {");
    assert_ne!(sound, broken);
    let found = compile(chromium, &[shader("sound", sound, vec![]), shader("broken", broken, vec![])]);
    let errors: Vec<&str> = found["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    let [error] = errors[..] else { panic!("{errors:?}") };
    assert!(error.starts_with("broken: ") && error.contains("uniform control flow"), "{error}");
}
