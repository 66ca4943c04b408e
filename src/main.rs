//! Hands over to the command line.

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    leave_the_screen_alone();
    pixtape::cli::main()
}

/// Where nobody is logged in at a screen, Mesa's layer that chooses among cards for Vulkan looks for a
/// Wayland server all the same, and libwayland complains on stderr about `XDG_RUNTIME_DIR`. pixtape chooses
/// for itself, so the layer stays out unless somebody has given it something to choose.
#[cfg(target_os = "linux")]
fn leave_the_screen_alone() {
    let is_set = |name| std::env::var_os(name).is_some();
    if !is_set("XDG_RUNTIME_DIR") && !is_set("MESA_VK_DEVICE_SELECT") && !is_set("NODEVICE_SELECT") {
        // SAFETY: this is the first thing that the program does, so there is no other thread that could read
        // the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
