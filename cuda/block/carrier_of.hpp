// Who carries runs on a device: see agf/carrier.hpp.
#pragma once

namespace agf {
class Carrier;
}

namespace agf::cuda {

const Carrier* carrier_of(int device);

}  // namespace agf::cuda
