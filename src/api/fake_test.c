int api_fake_unused_;
