// WEIR_BUG: a bug that can be switched on, as a member of a struct of them, so that the simulations
// and tests show that they would find it. All are off in a real node; nothing but tests and sim/
// set them. In a build with WEIR_BUGS=OFF (the preset `dist`, which makes what is released) they
// are constants, so that the compiler leaves their branches out, and no test can be built.
#pragma once

#ifdef WEIR_WITHOUT_BUGS
#define WEIR_BUG(name) static constexpr bool name = false
#else
#define WEIR_BUG(name) bool name = false
#endif
