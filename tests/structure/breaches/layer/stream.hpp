// SPDX-License-Identifier: MIT
// A stream under a kernel.
#pragma once
#include <iostream>
