/// Makes a component of a plugin: names the type and the hooks it implements, any of `authenticate`, `authorize`,
/// `transform`, `detect`.
///
/// ```
/// # use nervewire_plugin_sdk::{export, prelude::*};
/// # struct Guard;
/// # impl Plugin for Guard { type Config = (); fn init(_: (), _: Files) -> Result<Self, String> { Ok(Guard) } }
/// # impl Authorize for Guard {}
/// # impl Transform for Guard {
/// #     fn transform(&mut self, _: &Client, _: Message) -> Transformation { Transformation::Pass }
/// # }
/// export!(Guard: authorize, transform);
/// # fn main() {}
/// ```
///
/// Where the target is not wasm it only checks that the type implements what it names: exports there would collide, and
/// a plugin's tests need none.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            fn implements_plugin<P: $crate::Plugin>() {}
            const _: fn() = implements_plugin::<$plugin>;
            $($crate::__implements!($plugin: $hook);)+
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)] // Exports of a component are functions with a raw calling convention.
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            impl $crate::guest::Hosted for $plugin {
                fn instance() -> &'static ::std::thread::LocalKey<::std::cell::RefCell<::std::option::Option<Self>>> {
                    &INSTANCE
                }
            }

            $crate::__call_arena!();

            type Component = $crate::guest::Component<$plugin>;
            $crate::guest::base::export_base!(Component with_types_in $crate::guest::base);
            $($crate::__export_hook!(Component: $hook);)+
        };
    };
}

/// Tells the host that the allocator is the SDK's: it may use its call arena (`call_arena.rs`).
#[cfg(feature = "allocator")]
#[doc(hidden)]
#[macro_export]
macro_rules! __call_arena {
    () => {
        #[used]
        #[unsafe(link_section = "nervewire:call-arena")]
        static CALL_ARENA: [u8; 1] = *b"2";
    };
}

/// The allocator is another: the host enters the guest for each allocation.
#[cfg(not(feature = "allocator"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __call_arena {
    () => {};
}

/// One hook of [`export!`], on wasm.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    ($component:ident: authenticate) => {
        $crate::guest::authenticator::export_authenticator!($component with_types_in $crate::guest::authenticator);
    };
    ($component:ident: authorize) => {
        $crate::guest::authorizer::export_authorizer!($component with_types_in $crate::guest::authorizer);
    };
    ($component:ident: transform) => {
        $crate::guest::transformer::export_transformer!($component with_types_in $crate::guest::transformer);
    };
    ($component:ident: detect) => {
        $crate::guest::detector::export_detector!($component with_types_in $crate::guest::detector);
    };
    ($component:ident: $other:ident) => {
        ::std::compile_error!(::std::concat!(
            "unknown hook `", ::std::stringify!($other), "`, write `authenticate`, `authorize`, `transform` or `detect`"
        ));
    };
}

/// One hook of [`export!`], elsewhere.
#[doc(hidden)]
#[macro_export]
macro_rules! __implements {
    ($plugin:ty: authenticate) => {
        const _: fn(&mut $plugin, &$crate::Client, &$crate::Credentials) -> $crate::Authentication =
            <$plugin as $crate::Authenticate>::authenticate;
    };
    ($plugin:ty: authorize) => {
        const _: fn(&mut $plugin, &$crate::Client, &$crate::Request) -> $crate::Verdict =
            <$plugin as $crate::Authorize>::authorize;
    };
    ($plugin:ty: transform) => {
        const _: fn(&mut $plugin, &$crate::Client, $crate::Message) -> $crate::Transformation =
            <$plugin as $crate::Transform>::transform;
    };
    ($plugin:ty: detect) => {
        const _: fn(&mut $plugin, &[$crate::Window]) -> ::std::vec::Vec<$crate::Finding> =
            <$plugin as $crate::Detect>::detect;
    };
    ($plugin:ty: $other:ident) => {
        ::std::compile_error!(::std::concat!(
            "unknown hook `",
            ::std::stringify!($other),
            "`, write `authenticate`, `authorize`, `transform` or `detect`"
        ));
    };
}
