// WEIR_BUG declares a bug that can be switched on, as a member of a struct of such bugs, so that
// simulations and tests show that they would find it. All bugs are off in a real node; only tests
// and sim/ set them. In a build with WEIR_BUGS=OFF (the preset `dist`, which makes releases) they
// are constants: the compiler removes their branches, and no test can be built.
#pragma once

#ifdef WEIR_WITHOUT_BUGS
#define WEIR_BUG(name) static constexpr bool name = false
#else
#define WEIR_BUG(name) bool name = false
#endif
