// SPDX-License-Identifier: MIT
// A folder without a floor.
#pragma once
