# Each rule of the variables refuses what it is for, before Azure is asked.

mock_provider "azurerm" {
  source = "./tests/mocks"
}

variables {
  location     = "westeurope"
  project_name = "myproject"
  environment  = "staging"
}

run "location_with_spaces" {
  command = plan

  variables {
    location = "West Europe"
  }
  expect_failures = [var.location]
}

run "project_name_with_hyphen" {
  command = plan

  variables {
    project_name = "my-project"
  }
  expect_failures = [var.project_name]
}

run "project_name_upper_case" {
  command = plan

  variables {
    project_name = "MyProject"
  }
  expect_failures = [var.project_name]
}

run "project_name_begins_with_digit" {
  command = plan

  variables {
    project_name = "1project"
  }
  expect_failures = [var.project_name]
}

run "project_name_too_short" {
  command = plan

  variables {
    project_name = "p"
  }
  expect_failures = [var.project_name]
}

run "project_name_too_long" {
  command = plan

  variables {
    project_name = "abcdefghijklmno"
  }
  expect_failures = [var.project_name]
}

run "environment_with_underscore" {
  command = plan

  variables {
    environment = "my_env"
  }
  expect_failures = [var.environment]
}

run "environment_too_long" {
  command = plan

  variables {
    environment = "preproduction"
  }
  expect_failures = [var.environment]
}

run "names_too_long_together" {
  command = plan

  variables {
    project_name = "abcdefghijklmn"
    environment  = "prod"
  }
  expect_failures = [azurerm_resource_group.this]
}

run "names_too_long_with_suffix" {
  command = plan

  variables {
    name_suffix = "12345678"
  }
  expect_failures = [azurerm_resource_group.this]
}

run "name_suffix_upper_case" {
  command = plan

  variables {
    name_suffix = "X7"
  }
  expect_failures = [var.name_suffix]
}

run "name_suffix_too_long" {
  command = plan

  variables {
    name_suffix = "123456789"
  }
  expect_failures = [var.name_suffix]
}

run "tag_with_slash" {
  command = plan

  variables {
    tags = { "cost/center" = "1" }
  }
  expect_failures = [var.tags]
}

run "tag_value_too_long" {
  command = plan

  variables {
    tags = { note = join("", [for i in range(257) : "x"]) }
  }
  expect_failures = [var.tags]
}

run "too_many_tags" {
  command = plan

  variables {
    tags = { for i in range(48) : "tag${i}" => "x" }
  }
  expect_failures = [var.tags]
}

run "tag_of_the_module" {
  command = plan

  variables {
    tags = { managed-by = "me" }
  }
  expect_failures = [var.tags]
}

run "address_space_no_network" {
  command = plan

  variables {
    address_space = "vnet"
  }
  expect_failures = [var.address_space]
}

run "address_space_ipv6" {
  command = plan

  variables {
    address_space = "fd00::/16"
  }
  expect_failures = [var.address_space]
}

run "address_space_with_host_bits" {
  command = plan

  variables {
    address_space = "10.64.0.1/16"
  }
  expect_failures = [var.address_space]
}

run "address_space_too_small" {
  command = plan

  variables {
    address_space = "10.64.0.0/28"
  }
  expect_failures = [var.address_space]
}

run "address_space_too_large" {
  command = plan

  variables {
    address_space = "0.0.0.0/4"
  }
  expect_failures = [var.address_space]
}

run "address_space_within_the_platforms" {
  command = plan

  variables {
    address_space = "172.30.4.0/22"
  }
  expect_failures = [var.address_space]
}

run "address_space_around_the_platforms" {
  command = plan

  variables {
    address_space = "172.16.0.0/12"
  }
  expect_failures = [var.address_space]
}

run "gpu_profile_unknown" {
  command = plan

  variables {
    gpu_profile = "NC24-A100"
  }
  expect_failures = [var.gpu_profile]
}

run "private_dns_zone_of_one_label" {
  command = plan

  variables {
    private_dns_zone_name = "internal"
  }
  expect_failures = [var.private_dns_zone_name]
}

run "private_dns_zone_with_underscore" {
  command = plan

  variables {
    private_dns_zone_name = "my_zone.internal"
  }
  expect_failures = [var.private_dns_zone_name]
}

run "log_retention_too_short" {
  command = plan

  variables {
    log_retention_days = 7
  }
  expect_failures = [var.log_retention_days]
}

run "log_retention_too_long" {
  command = plan

  variables {
    log_retention_days = 731
  }
  expect_failures = [var.log_retention_days]
}

run "log_retention_of_half_a_day" {
  command = plan

  variables {
    log_retention_days = 30.5
  }
  expect_failures = [var.log_retention_days]
}

run "log_quota_of_nothing" {
  command = plan

  variables {
    log_daily_quota_gb = 0
  }
  expect_failures = [var.log_daily_quota_gb]
}

run "storage_replication_unknown" {
  command = plan

  variables {
    storage_replication = "lrs"
  }
  expect_failures = [var.storage_replication]
}

run "share_name_upper_case" {
  command = plan

  variables {
    shares = { Volumes = 100 }
  }
  expect_failures = [var.shares]
}

run "share_name_with_two_hyphens" {
  command = plan

  variables {
    shares = { my--volumes = 100 }
  }
  expect_failures = [var.shares]
}

run "share_name_too_short" {
  command = plan

  variables {
    shares = { v1 = 100 }
  }
  expect_failures = [var.shares]
}

run "share_name_too_long" {
  command = plan

  variables {
    shares = { abcdefghijklmnopqrstuvwxyz1234567 = 100 }
  }
  expect_failures = [var.shares]
}

run "share_quota_of_nothing" {
  command = plan

  variables {
    shares = { volumes = 0 }
  }
  expect_failures = [var.shares]
}

run "share_quota_too_large" {
  command = plan

  variables {
    shares = { volumes = 102401 }
  }
  expect_failures = [var.shares]
}

run "acr_sku_unknown" {
  command = plan

  variables {
    acr_sku = "Bronze"
  }
  expect_failures = [var.acr_sku]
}

run "state_table_with_hyphen" {
  command = plan

  variables {
    state_table = "my-state"
  }
  expect_failures = [var.state_table]
}

run "state_table_begins_with_digit" {
  command = plan

  variables {
    state_table = "1state"
  }
  expect_failures = [var.state_table]
}

run "state_table_too_short" {
  command = plan

  variables {
    state_table = "st"
  }
  expect_failures = [var.state_table]
}

run "state_table_of_the_service" {
  command = plan

  variables {
    state_table = "Tables"
  }
  expect_failures = [var.state_table]
}

run "backend_principal_by_name" {
  command = plan

  variables {
    backend_principals = ["me@example.com"]
  }
  expect_failures = [var.backend_principals]
}

run "callback_url_without_scheme" {
  command = plan

  variables {
    callback_url = "backend.example.com"
  }
  expect_failures = [var.callback_url]
}

run "callback_url_with_password" {
  command = plan

  variables {
    callback_url = "https://user:secret@backend.example.com"
  }
  expect_failures = [var.callback_url]
}

run "callback_url_with_quote" {
  command = plan

  variables {
    callback_url = "https://backend.example.com/'; echo '"
  }
  expect_failures = [var.callback_url]
}

run "backend_image_without_registry" {
  command = plan

  variables {
    backend_image = "backend:1"
  }
  expect_failures = [var.backend_image]
}

run "backend_image_without_tag" {
  command = plan

  variables {
    backend_image = "localhost:5000/sockerless/backend"
  }
  expect_failures = [var.backend_image]
}

run "agent_image_with_scheme" {
  command = plan

  variables {
    agent_image = "https://acr.azurecr.io/sockerless/agent:1"
  }
  expect_failures = [var.agent_image]
}

run "backend_cpu_between_sizes" {
  command = plan

  variables {
    backend_cpu = 0.3
  }
  expect_failures = [var.backend_cpu]
}

run "backend_cpu_too_large" {
  command = plan

  variables {
    backend_cpu = 8
  }
  expect_failures = [var.backend_cpu]
}

run "backend_token_version_zero" {
  command = plan

  variables {
    backend_token_version = 0
  }
  expect_failures = [var.backend_token_version]
}

run "deploy_backend_without_image" {
  command = plan

  variables {
    deploy_backend = true
  }
  expect_failures = [azurerm_container_app.backend]
}

run "deploy_backend_beside_callback_url" {
  command = plan

  variables {
    deploy_backend = true
    backend_image  = "acrmyprojectstaging11e59.azurecr.io/sockerless/backend:1"
    callback_url   = "https://backend.example.com"
  }
  expect_failures = [azurerm_container_app.backend]
}

run "deploy_backend_in_internal_environment" {
  command = plan

  variables {
    deploy_backend         = true
    backend_image          = "acrmyprojectstaging11e59.azurecr.io/sockerless/backend:1"
    internal_load_balancer = true
  }
  expect_failures = [azurerm_container_app.backend]
}
