//! The program `pixtape`: calls the command line (`cli`).

#[cfg(target_os = "linux")]
mod allocator;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: allocator::EndsWithoutMemory = allocator::EndsWithoutMemory;

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    leave_the_screen_alone();
    pixtape::cli::main()
}

/// Disables Mesa's device selection layer for Vulkan if nobody is logged in at a screen. Otherwise the layer
/// looks for a Wayland server, and libwayland complains on stderr that `XDG_RUNTIME_DIR` is not set. pixtape
/// selects its device itself, so it does not need the layer. If the user has set a variable of the layer,
/// the layer stays enabled.
#[cfg(target_os = "linux")]
fn leave_the_screen_alone() {
    let is_set = |name| std::env::var_os(name).is_some();
    if !is_set("XDG_RUNTIME_DIR") && !is_set("MESA_VK_DEVICE_SELECT") && !is_set("NODEVICE_SELECT") {
        // SAFETY: no other thread may access the environment at the same time. `main` calls this first,
        // before any other thread is started.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
