"""Other machines than this one: graphs run on an emulated processor, or in WebAssembly. Knows no bundle."""
